// Purpose: what of a pool's free memory can be had: the least of several limits.
// Who calls it: ctest.
// Crash rule: reads only.
#include "node/capacity.hpp"

#include <gtest/gtest.h>

namespace aep {
namespace {

TEST(Capacity, IsTheLeast) {
    EXPECT_EQ((Capacity{.pool = 7}).usable(), 7u);
    EXPECT_STREQ((Capacity{.pool = 7}).bound(), "pool");
    const Capacity all{.pool = 7, .file_system = 6, .cgroup = 4, .machine = 5};
    EXPECT_EQ(all.usable(), 4u);
    EXPECT_STREQ(all.bound(), "cgroup");
    EXPECT_STREQ((Capacity{.pool = 7, .file_system = 6}).bound(), "file system");
    EXPECT_STREQ((Capacity{.pool = 7, .machine = 6}).bound(), "machine");
    EXPECT_STREQ((Capacity{.pool = 7, .file_system = 7}).bound(), "pool") << "it suffices";
}

TEST(Capacity, MemoryOfTheMachine) {
    constexpr const char* TEXT =
        "MemTotal:       24659980 kB\n"
        "MemFree:         1000 kB\n"
        "MemAvailable:    2000 kB\n"
        "SwapTotal:       9000 kB\n"
        "SwapFree:        3000 kB\n";
    EXPECT_EQ(parse_meminfo(TEXT), 5000 * KiB);
    EXPECT_EQ(parse_meminfo("SwapFree: 3000 kB\n"), NO_LIMIT);
    EXPECT_EQ(parse_meminfo(""), NO_LIMIT);
    EXPECT_EQ(parse_meminfo("MemAvailable: many\n"), NO_LIMIT);
}

}  // namespace
}  // namespace aep
