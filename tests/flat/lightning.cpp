// Purpose: the store by Lightning's rule logs as many words, each with its fence, as the published code does: no more, so that it is
//          no straw man, and no fewer.
// Who calls it: ctest.
// Crash rule: no state.
#include "bench/lightning/store.hpp"

#include <gtest/gtest.h>

namespace aep::apps::kv {
namespace {

class LightningRule : public testing::Test {
  protected:
    /// Words that `change` logs.
    template <class Do>
    std::uint64_t logged(Do&& change) {
        const std::uint64_t before = store_.logged();
        change();
        return store_.logged() - before;
    }

    const Plan plan_ = [] {
        Plan plan;
        plan.members = 2;
        plan.objects_each = 100;
        plan.bytes_each = 10'000;
        return plan;
    }();
    Lightning::World world_{plan_};
    Lightning store_{plan_, &world_, 0};
    Lightning other_{plan_, &world_, 1};
    std::string found_;
};

TEST_F(LightningRule, EachOperationLogsItsWords) {
    EXPECT_EQ(logged([&] { store_.put("key", "one", false); }), 2u + 3 + 6 + 3 + 1)
        << "free list, block, entry, chain, seal";
    EXPECT_EQ(logged([&] { store_.get(0, "key", found_); }), 2u) << "a reference there and back";
    EXPECT_EQ(logged([&] { store_.put("key", "another", false); }), 15u + 1 + 1 + 2 + 2)
        << "and of the one before: chain, reference, block, free list";
    EXPECT_EQ(logged([&] { store_.remove("key"); }), 1u + 1 + 2 + 2);
    EXPECT_EQ(logged([&] { store_.get(0, "key", found_); }), 0u);
}

TEST_F(LightningRule, WhatOneHasPutOthersGet) {
    store_.put("key", "one", false);
    ASSERT_TRUE(other_.get(0, "key", found_));
    EXPECT_EQ(found_, "one");
    other_.put("key", "a longer one", true);
    ASSERT_TRUE(store_.get(0, "key", found_));
    EXPECT_EQ(found_, "a longer one");
    EXPECT_TRUE(store_.remove("key"));
    EXPECT_FALSE(store_.remove("key"));
    EXPECT_FALSE(other_.get(0, "key", found_));
}

TEST_F(LightningRule, MemoryIsUsedAgain) {
    for (int i = 0; i < 10'000; ++i) store_.put("key", std::string(1000, 'x'), false);
    int seen = 0;
    store_.scan(0, [&](std::string_view key, const std::string& value) {
        EXPECT_EQ(key, "key");
        EXPECT_EQ(value.size(), 1000u);
        ++seen;
    });
    EXPECT_EQ(seen, 1);
}

}  // namespace
}  // namespace aep::apps::kv
