// Purpose: unit tests of dsm-core/base/slot_lock.hpp: who holds a lock, and whose it is to give up.
// Who calls it: ctest.
// Crash rule: each lock is the test's own.
#include "dsm-core/base/slot_lock.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace aep {
namespace {

TEST(SlotLock, NamesItsHolder) {
    SlotLock lock{};
    EXPECT_EQ(lock.holder(), SlotLock::NO_SLOT);
    for (const u32 slot : {0u, 1u, 77u}) {
        lock.lock(slot);
        EXPECT_EQ(lock.holder(), slot);
        lock.unlock();
        EXPECT_EQ(lock.holder(), SlotLock::NO_SLOT);
    }
}

TEST(SlotLock, IsGivenUpForItsHolderAlone) {
    SlotLock lock{};
    EXPECT_FALSE(lock.give_up_of(0)) << "nobody holds it";
    lock.lock(3);
    for (const u32 other : {0u, 2u, 4u}) EXPECT_FALSE(lock.give_up_of(other));
    EXPECT_EQ(lock.holder(), 3u);
    EXPECT_TRUE(lock.give_up_of(3));
    EXPECT_EQ(lock.holder(), SlotLock::NO_SLOT);
    EXPECT_FALSE(lock.give_up_of(3)) << "it holds it no more";
}

/// The word says that somebody waits: it is still the holder's, and who waits gets it.
TEST(SlotLock, WhoWaitsGetsWhatIsGivenUp) {
    SlotLock lock{};
    lock.lock(3);
    std::thread waiter([&] {
        lock.lock(5);
        EXPECT_EQ(lock.holder(), 5u);
        lock.unlock();
    });
    EXPECT_FALSE(lock.give_up_of(5));
    EXPECT_TRUE(lock.give_up_of(3));
    waiter.join();
    EXPECT_EQ(lock.holder(), SlotLock::NO_SLOT);
}

}  // namespace
}  // namespace aep
