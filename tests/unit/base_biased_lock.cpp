// Purpose: unit tests of dsm-core/base/biased_lock.hpp: one has it at a time, whoever comes by the short way or the long one;
//          and what a death at any place of a revocation leaves.
// Who calls it: ctest.
// Crash rule: each lock is the test's own.
#include "dsm-core/base/biased_lock.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <thread>
#include <vector>

#include "tests/unit/stepped.hpp"

namespace aep {
namespace {

const auto never = [] { return false; };
const auto anybody = [](u32) { return true; };

/// Takes it as an operation does; whether by the short way.
bool take(BiasedLock& lock, u32 slot) {
    if (lock.enter(slot)) return true;
    EXPECT_TRUE(lock.lock(slot, true, never, anybody));
    return false;
}
void let_go(BiasedLock& lock, bool short_way) {
    if (short_way)
        lock.leave();
    else
        lock.taken().unlock();
}
/// Biased to the slot.
void bias(BiasedLock& lock, u32 slot) {
    EXPECT_FALSE(take(lock, slot));
    lock.allow_bias(slot);
    let_go(lock, false);
}

TEST(BiasedLock, IsForNobodyBeforeThatIsAllowed) {
    BiasedLock lock{};
    for (int i = 0; i < 10'000; ++i) {
        ASSERT_FALSE(take(lock, 3));
        let_go(lock, false);
    }
    bias(lock, 3);
    EXPECT_FALSE(lock.enter(2));
    EXPECT_FALSE(lock.enter(4));
    EXPECT_TRUE(lock.enter(3));
    EXPECT_TRUE(lock.is_held_by(3));
    EXPECT_FALSE(lock.is_held_by(2));
    lock.leave();
    EXPECT_FALSE(lock.is_held_by(3));
    EXPECT_FALSE(lock.is_held());
}

TEST(BiasedLock, AnotherTakesItAway) {
    BiasedLock lock{};
    bias(lock, 3);
    EXPECT_FALSE(take(lock, 5));
    EXPECT_TRUE(lock.is_held_by(5));
    let_go(lock, false);
    EXPECT_FALSE(take(lock, 3)) << "no more";
    let_go(lock, false);
}

TEST(BiasedLock, WhoTakesItOftenAloneGetsItBack) {
    BiasedLock lock{};
    bias(lock, 3);
    let_go(lock, take(lock, 5));
    u32 long_ways = 0;
    while (long_ways < 100'000) {
        const bool short_way = take(lock, 7);
        let_go(lock, short_way);
        if (short_way) break;
        if (++long_ways % 100 == 0 && long_ways < 1'000) let_go(lock, take(lock, 5));
    }
    EXPECT_GT(long_ways, 1'000u);
    EXPECT_LT(long_ways, 10'000u);
    // Who may not have it so never has: the host, say, with a slot of its own.
    EXPECT_TRUE(lock.lock(9, false, never, anybody));
    lock.forbid_bias();
    lock.taken().unlock();
    for (int i = 0; i < 10'000; ++i) {
        ASSERT_FALSE(take(lock, 7));
        let_go(lock, false);
    }
}

/// It waits for who is in it, and frees what a dead one has.
TEST(BiasedLock, IsWaitedForUntilItIsGivenUp) {
    BiasedLock lock{};
    bias(lock, 3);
    ASSERT_TRUE(lock.enter(3));  // and dies
    std::atomic<bool> has{false};
    std::thread waiter([&] {
        EXPECT_FALSE(take(lock, 5));
        has = true;
        let_go(lock, false);
    });
    while (lock.taken().holder() != 5) sched_yield();
    EXPECT_FALSE(has.load());
    lock.give_up_of(4);
    EXPECT_FALSE(has.load());
    lock.give_up_of(3);
    waiter.join();
    EXPECT_FALSE(lock.is_held());
}

/// Who took it away died before it saw that nobody is in it: the next one has to wait all the same.
TEST(BiasedLock, ARevocationThatWasCutOffIsDoneAgain) {
    BiasedLock lock{};
    bias(lock, 3);
    ASSERT_TRUE(lock.enter(3));
    // Until the first look that finds it held; then it is "dead".
    EXPECT_FALSE(lock.lock(
        5, true, [] { return true; }, anybody));
    lock.give_up_of(5);
    EXPECT_TRUE(lock.is_held_by(3));
    EXPECT_FALSE(lock.lock(
        6, true, [] { return true; }, anybody))
        << "slot 3 is in it still";
    lock.give_up_of(6);
    lock.leave();
    EXPECT_FALSE(take(lock, 3)) << "it was taken away";
    let_go(lock, false);
}

/// What somebody wrote there holds up nobody.
TEST(BiasedLock, OneThatIsInNoOperationIsNotWaitedFor) {
    BiasedLock lock{};
    bias(lock, 3);
    ASSERT_TRUE(lock.enter(3));
    EXPECT_TRUE(lock.lock(5, true, never, [](u32 slot) { return slot != 3; }));
    lock.taken().unlock();
}

/// Between any two instructions of who enters: one of them has it.
TEST(BiasedLock, WhoTakesItAwayWhileTheOtherEntersIsSeen) {
    struct Shared {
        BiasedLock lock;
        bool entered;
    };
    void* const at =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(at, MAP_FAILED);
    Shared& shared = *static_cast<Shared*>(at);
    bool within = true;
    u32 taken_within = 0;
    for (u32 steps = 1; within && !HasFailure(); ++steps) {
        new (&shared) Shared{};
        bias(shared.lock, 3);
        test::Stepped entering([&] { shared.entered = shared.lock.enter(3); });
        within = entering.makes_steps(steps);
        const bool taken = shared.lock.lock(
            5, true, [] { return true; }, anybody);
        if (within) entering.goes_on();
        EXPECT_FALSE(taken && shared.entered) << "after " << steps << " steps";
        taken_within += within && taken;
    }
    EXPECT_GT(taken_within, 5u);
    munmap(at, sizeof(Shared));
}

TEST(BiasedLock, OneHasItAtATime) {
    if (!take_part_in_barriers()) GTEST_SKIP() << "no barriers in every thread on this system";
    BiasedLock lock{};
    bias(lock, 0);
    constexpr u32 TIMES = 200'000, OTHERS = 300;
    u64 plain = 0, other = 0;  // apart: a half done change would be seen
    std::atomic<u32> short_ways{0};
    const auto change = [&](u32 slot) {
        const bool short_way = take(lock, slot);
        EXPECT_EQ(plain, other);
        ++plain;
        ++other;
        let_go(lock, short_way);
        return short_way;
    };
    std::vector<std::thread> threads;
    threads.emplace_back([&] {
        for (u32 i = 0; i < TIMES; ++i) short_ways += change(0);
    });
    for (const u32 slot : {1u, 2u}) {
        threads.emplace_back([&, slot] {
            for (u32 i = 0; i < OTHERS; ++i) {
                change(slot);
                sched_yield();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(plain, TIMES + 2 * OTHERS);
    EXPECT_GT(short_ways.load(), 0u);
}

}  // namespace
}  // namespace aep
