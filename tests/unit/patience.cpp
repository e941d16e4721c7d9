// Purpose: how long a wait looks before it sleeps, by what the waits before were like.
// Who calls it: ctest.
// Crash rule: none.
#include "shim/sharing/patience.hpp"

#include <gtest/gtest.h>

namespace aep {
namespace {

TEST(Patience, LongSleepsMakeItShort) {
    Patience patience;
    EXPECT_EQ(patience.looks(), Patience::LONGEST);
    for (int i = 0; i < 10; ++i) patience.slept(Patience::SHORT_SLEEP_NS);
    EXPECT_EQ(patience.looks(), Patience::SHORTEST);
}

TEST(Patience, ASleepThatALookWouldHaveMetMakesItLonger) {
    Patience patience;
    for (int i = 0; i < 10; ++i) patience.slept(1'000'000);
    patience.slept(Patience::SHORT_SLEEP_NS - 1);
    EXPECT_EQ(patience.looks(), 2 * Patience::SHORTEST);
    for (int i = 0; i < 10; ++i) patience.slept(0);
    EXPECT_EQ(patience.looks(), Patience::LONGEST);
}

TEST(Patience, WhatWasMetMayTakeTwiceAsLongTheNextTime) {
    Patience patience;
    for (int i = 0; i < 10; ++i) patience.slept(1'000'000);
    patience.met_after(Patience::SHORTEST - 1);
    EXPECT_EQ(patience.looks(), 2 * (Patience::SHORTEST - 1));
    patience.met_after(1);  // and is not forgotten for one that came at once
    EXPECT_EQ(patience.looks(), 2 * (Patience::SHORTEST - 1));
}

}  // namespace
}  // namespace aep
