// Purpose: every operation of a flat client, ended at every access, with every subset of its
//          unflushed lines lost; another client recovers it, is itself ended at every access, and
//          a third one does the rest. Nothing is leaked, lost or allocated twice.
// Who calls it: ctest.
// Crash rule: this is the test of the crash rules.
#include <gtest/gtest.h>

#include "tests/flat/flat_world.hpp"

namespace aep::flat::test {
namespace {

struct Operation {
    const char* name;
    void (*run)(FlatWorld&);  // by client 0
    void (*setup)(FlatWorld&);
};

void allocate(FlatWorld& w, u32 who) {
    Ref ref{};
    if (w.as(who).allocate(GRANULE, ref) == Status::ok) w.keep(who, ref);
}

void release(FlatWorld& w, u32 who, u32 index) {
    const Ref ref = w.held(who, index);
    w.forget(who, index);  // what dies in between may have it or not
    w.as(who).release(ref);
}

/// Client 0 has a page with objects 0 to 2 and sent its object 1 to client 1, which received it;
/// object 2 is on its way. Client 1 has a page with three objects, sent the first two to client 0,
/// which received one, and dropped its own references to both.
void usual(FlatWorld& w) {
    w.begin();
    Ref ref{};
    for (u32 who = 0; who < 2; ++who)
        for (u32 i = 0; i < 3; ++i) allocate(w, who);
    w.as(0).send(1, w.held(0, 1));
    w.as(1).receive(0, ref);
    w.keep(1, ref);
    w.as(0).send(1, w.held(0, 2));
    w.as(1).send(0, w.held(1, 0));
    w.as(1).send(0, w.held(1, 1));
    w.as(0).receive(1, ref);
    w.keep(0, ref);
    release(w, 1, 0);
    release(w, 1, 0);
    w.memory.write_back_all();
}

/// The first block of a page that another one takes the last of.
void allocate_twice(FlatWorld& w) {
    allocate(w, 0);
    allocate(w, 0);
}

void allocate_until_full(FlatWorld& w) {
    Ref ref{};
    while (w.as(0).allocate(GRANULE, ref) == Status::ok) w.keep(0, ref);
}

/// Client 0 has no free block on its lists: client 1 has freed all objects of one of its pages and
/// one of another.
void others_freed(FlatWorld& w) {
    w.begin();
    allocate_until_full(w);
    for (u32 i = 0; i < 5; ++i) {
        Ref ref{};
        w.as(0).send(1, w.held(0, 3));
        release(w, 0, 3);
        w.as(1).receive(0, ref);
        w.as(1).release(ref);
    }
    w.memory.write_back_all();
}

const Operation OPERATIONS[] = {
    {"allocate", [](FlatWorld& w) { allocate(w, 0); }, usual},
    {"allocate_on_a_new_page", allocate_twice, usual},
    {"allocate_until_full", allocate_until_full, usual},
    {"allocate_what_others_freed", allocate_until_full, others_freed},
    {"last_release", [](FlatWorld& w) { release(w, 0, 0); }, usual},
    {"last_release_of_a_foreign_object", [](FlatWorld& w) { release(w, 0, 3); }, usual},
    {"release", [](FlatWorld& w) { release(w, 0, 1); }, usual},
    {"attach",
     [](FlatWorld& w) {
         Ref ref{};
         if (w.as(0).attach(w.held(0, 1).object, ref) == Status::ok) w.keep(0, ref);
     },
     usual},
    {"send", [](FlatWorld& w) { w.as(0).send(1, w.held(0, 0)); }, usual},
    {"receive",
     [](FlatWorld& w) {
         Ref ref{};
         if (w.as(0).receive(1, ref) == Status::ok) w.keep(0, ref);
     },
     usual},
};

class FlatCrash : public testing::TestWithParam<Operation> {
  protected:
    bool die(FlatWorld& w, u64 last, u64 evicted = NEVER) {
        GetParam().setup(w);
        return w.dies_at(0, last, evicted, [&] { GetParam().run(w); });
    }
    u64 cases = 0;
};

TEST_P(FlatCrash, thenRecovery) {
    FlatWorld w;
    bool died = true;
    for (u64 last = 1; died; ++last) {
        for (u64 evicted = last < 60 ? 1 : last; evicted <= last; ++evicted) do {
                died = die(w, last, evicted);
                w.crash(0);
                w.recover(0, 1);
                w.check();
                ++cases;
                ASSERT_EQ(w.failure(), "") << "access " << last << " evicted " << evicted;
            } while (w.choices().next());
    }
    std::printf("%s: %lu cases\n", GetParam().name, cases);
}

TEST_P(FlatCrash, thenRecoveryThatDiesAnywhereToo) {
    FlatWorld w;
    bool died = true;
    for (u64 last = 1; died; last += last < 60 ? 1 : 7) {
        bool recoverer_died = true;
        for (u64 second = 1; recoverer_died; ++second) do {
                died = die(w, last);
                w.crash(0);
                recoverer_died = w.dies_at(1, second, NEVER, [&] { w.recover(0, 1); });
                w.crash(1);
                w.recover(1, 2);
                w.recover(0, 2);
                w.check();
                ++cases;
                ASSERT_EQ(w.failure(), "") << "access " << last << " and " << second;
            } while (w.choices().next());
    }
    std::printf("%s: %lu cases\n", GetParam().name, cases);
}

INSTANTIATE_TEST_SUITE_P(Operations, FlatCrash, testing::ValuesIn(OPERATIONS),
                         [](const auto& operation) { return std::string(operation.param.name); });

TEST(FlatReuse, blocksFreedByOthersComeBack) {
    FlatWorld w;
    others_freed(w);
    ASSERT_EQ(w.count(0), 7U);
    allocate_until_full(w);
    EXPECT_EQ(w.count(0), 12U);
    w.check();
    EXPECT_EQ(w.failure(), "");
}

/// Without flushes of count words or records the same cases find what is broken.
TEST(FlatCrashBroken, isFound) {
    const auto found = [](era::test::Sabotage sabotage, const Operation& operation) {
        FlatWorld w;
        w.memory.sabotage = sabotage;
        bool died = true;
        for (u64 last = 1; died; ++last) {
            do {
                operation.setup(w);
                died = w.dies_at(0, last, NEVER, [&] { operation.run(w); });
                w.crash(0);
                w.recover(0, 1);
                w.check();
                if (!w.failure().empty()) return true;
            } while (w.choices().next());
        }
        return false;
    };
    EXPECT_TRUE(found({.no_record = true}, OPERATIONS[0]));
    EXPECT_TRUE(found({.no_count = true}, OPERATIONS[0]));
    EXPECT_FALSE(found({}, OPERATIONS[0]));
}

}  // namespace
}  // namespace aep::flat::test
