// Purpose: the flat baseline by the rule *published* makes exactly the flushes and fences that were
//          counted in the published code of CXL-SHM.
// Who calls it: ctest.
// Crash rule: nobody dies here.
#include <gtest/gtest.h>

#include <memory>

#include "bench/flat/client.hpp"
#include "bench/flat/emulated.hpp"

namespace aep::flat {
namespace {

using Counted = PublishedMemory<CountingMemory>;

struct Cost {
    u64 flushes, fences;
    bool operator==(const Cost&) const = default;
};

std::ostream& operator<<(std::ostream& to, const Cost& cost) {
    return to << cost.flushes << " flushes, " << cost.fences << " fences";
}

/// Two clients of one pool.
class FlatPublished : public testing::Test {
  protected:
    static constexpr Geometry GEOMETRY{.clients = 2, .refs = 64, .pages = 4, .page_shift = 9};

    FlatPublished() {
        // The first allocation of a client takes a page, the second one does not.
        for (Client<Counted>* client : {&first, &second})
            EXPECT_EQ(client->allocate(64, ref), Status::ok);
        EXPECT_EQ(first.allocate(64, ref), Status::ok);
    }

    template <class Operation>
    static Cost cost(Counted& memory, Operation&& operation) {
        memory.under().flushes = memory.under().fences = 0;
        EXPECT_EQ(operation(), Status::ok);
        return {memory.under().flushes, memory.under().fences};
    }

    std::unique_ptr<u8[]> bytes = std::make_unique<u8[]>(Pool::bytes(GEOMETRY) + CACHE_LINE);
    Pool pool{reinterpret_cast<void*>(round_up(reinterpret_cast<uptr>(bytes.get()), CACHE_LINE)),
              GEOMETRY};
    Counted of_first{CountingMemory{era::CxlMemory{}}};
    Counted of_second{CountingMemory{era::CxlMemory{}}};
    Client<Counted> first{of_first, pool, 0};
    Client<Counted> second{of_second, pool, 1};
    Ref ref{};
};

TEST_F(FlatPublished, AnAllocationWritesItsRootReferenceBackUnderOneFence) {
    EXPECT_EQ(cost(
                  of_first, [&] { return first.allocate(64, ref); }),
              (Cost{1, 1}));
}

TEST_F(FlatPublished, TheFirstOneFromAPageAlsoTheRedoAreaAndThePage) {
    for (u32 i = 2; i < GEOMETRY.blocks(); ++i) ASSERT_EQ(first.allocate(64, ref), Status::ok);
    EXPECT_EQ(cost(of_first, [&] { return first.allocate(64, ref); }), (Cost{3, 2}));
}

TEST_F(FlatPublished, AChangeOfAReferenceWritesTheRedoRecordBack) {
    Ref more{};
    EXPECT_EQ(cost(
                  of_first, [&] { return first.attach(ref.object, more); }),
              (Cost{1, 0}));
    EXPECT_EQ(cost(
                  of_first, [&] { return first.release(more); }),
              (Cost{1, 0}));
    EXPECT_EQ(cost(
                  of_first, [&] { return first.send(1, ref); }),
              (Cost{1, 0}));
    EXPECT_EQ(cost(
                  of_second, [&] { return second.receive(0, more); }),
              (Cost{1, 0}));
    EXPECT_EQ(cost(of_first, [&] { return first.release(ref); }), (Cost{1, 0}));
}

TEST_F(FlatPublished, AndOnceMoreWhereTheCountWordShowsAnEraNotSeenBefore) {
    Ref received{};
    ASSERT_EQ(first.send(1, ref), Status::ok);
    ASSERT_EQ(second.receive(0, received), Status::ok);
    // The last one to change the count was the other client.
    EXPECT_EQ(cost(
                  of_second, [&] { return second.release(received); }),
              (Cost{2, 0}));
    EXPECT_EQ(cost(of_first, [&] { return first.release(ref); }), (Cost{2, 0}));
}

}  // namespace
}  // namespace aep::flat
