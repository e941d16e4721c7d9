// Purpose: unit tests of dsm-core/heap/decay.hpp with a clock of their own: what goes back, when,
// and
//          what does not.
// Who calls it: ctest.
// Crash rule: memory of the process.
#include <gtest/gtest.h>

#include "dsm-core/heap/decay.hpp"

namespace aep {
namespace {

constexpr u64 WINDOW = 1600;
constexpr u64 EPOCH = WINDOW / Decay::EPOCHS;

/// A decay whose due slices are purged at once, as the background thread does.
struct Clocked {
    Decay decay{};
    u64 now = 1;
    u64 purged = 0;

    Clocked() { decay.init(); }
    u32 look() {
        if (now < decay.next_look()) return 0;
        const u32 due = decay.due(now, WINDOW);
        decay.purged(due, now);
        purged += due;
        return due;
    }
    /// Goes on to `time`, with a look whenever one is due.
    void run_to(u64 time) {
        for (; now < time; ++now) look();
    }
    void take(u32 slices) { decay.took(slices); }
    void give(u32 slices) { decay.gave(slices, now); }
};

TEST(Decay, NothingGoesWithinTheWindowAllWithinTwo) {
    Clocked c;
    c.give(1000);
    c.run_to(WINDOW);
    EXPECT_EQ(c.purged, 0u);
    c.run_to(2 * WINDOW + 3 * EPOCH);
    EXPECT_EQ(c.purged, 1000u);
    EXPECT_EQ(c.decay.dirty(), 0u);
    EXPECT_EQ(c.decay.next_look(), Decay::NEVER) << "nobody need look any more";
}

TEST(Decay, GoesAlongTheCurve) {
    Clocked c;
    c.give(10'000);
    c.run_to(WINDOW + 2 * EPOCH);
    const u64 begun = c.now;
    u64 before = c.purged;
    u64 largest = 0;
    while (c.now < begun + WINDOW) {
        c.run_to(c.now + EPOCH);
        largest = std::max(largest, c.purged - before);
        before = c.purged;
        const double x = static_cast<double>(c.now - begun + 2 * EPOCH) / WINDOW;
        const double curve = x >= 1 ? 1 : x * x * x * (6 * x * x - 15 * x + 10);
        EXPECT_LE(static_cast<double>(c.purged), 10'000 * curve + 1) << "at " << x;
    }
    EXPECT_GT(largest, 10'000 / Decay::EPOCHS) << "fast in the middle";
    EXPECT_LT(largest, 10'000 * 3 / Decay::EPOCHS) << "and never all at once";
}

/// Bursts that need `slices` for a moment, with pauses shorter than the window.
void run_bursts(Clocked& c, u32 slices) {
    for (int burst = 0; burst < 50; ++burst) {
        c.run_to(c.now + WINDOW * 7 / 10);
        c.take(slices);
        c.run_to(c.now + 30);
        c.give(slices);
    }
}

TEST(Decay, BurstsWithinTheWindowLoseNothing) {
    Clocked c;
    c.give(1000);
    run_bursts(c, 1000);
    EXPECT_EQ(c.purged, 0u);
}

TEST(Decay, WhatBurstsDoNotNeedGoesAndTheRestStays) {
    Clocked c;
    c.give(1000);
    run_bursts(c, 400);
    EXPECT_EQ(c.purged, 600u);
    EXPECT_EQ(c.decay.dirty(), 400u);
}

TEST(Decay, TheFirstLookAfterALongPauseTakesNothing) {
    Clocked c;
    for (int burst = 0; burst < 20; ++burst) {
        c.give(1000);
        c.now += 50 * WINDOW;  // nobody looks meanwhile
        EXPECT_EQ(c.look(), 0u) << burst;
        c.take(1000);
    }
}

TEST(Decay, AfterALongPauseItGoesAlongTheCurve) {
    Clocked c;
    c.give(10'000);
    c.now += 50 * WINDOW;
    EXPECT_EQ(c.look(), 0u);
    c.run_to(c.now + 5 * EPOCH);
    EXPECT_LT(c.purged, 3000u);
}

TEST(Decay, WhoLooksRarelyIsRidOfItAtTheSecondLook) {
    Clocked c;
    c.give(1000);
    c.now += 3 * WINDOW;
    c.look();
    c.now += 3 * WINDOW;
    c.look();
    EXPECT_EQ(c.purged, 1000u);
}

TEST(Decay, AWindowOfNothingIsAtOnce) {
    Clocked c;
    c.give(10);
    EXPECT_LE(c.decay.next_look(), c.now);
    EXPECT_EQ(c.decay.due(c.now, 0), 10u);
}

TEST(Decay, WhatIsTakenIsNotDue) {
    Clocked c;
    c.give(1000);
    EXPECT_EQ(c.decay.due(c.now, 0), 1000u);
    c.take(900);
    c.decay.purged(100, c.now);
    EXPECT_EQ(c.decay.dirty(), 0u);
    EXPECT_EQ(c.decay.due(c.now, 0), 0u);
}

TEST(Decay, EnormousWindowsAndTimesDoNotWrap) {
    Clocked c;
    c.give(5);
    EXPECT_EQ(c.decay.due(~u64{0} / 2, ~u64{0}), 0u);
    EXPECT_EQ(c.decay.due(~u64{0} / 2 + 1, ~u64{0}), 0u);
    EXPECT_EQ(c.decay.dirty(), 5u);
}

}  // namespace
}  // namespace aep
