// Purpose: unit tests of the memory cgroup's headroom: the parsers, and a tree of made-up cgroup
//          files.
// Who calls it: ctest. (A real cgroup is used in tests/unit/pool_root.cpp.)
// Crash rule: the files live in a directory that each test removes.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "shim/backing/headroom.hpp"
#include "tests/unit/pool_fixture.hpp"

namespace aep {
namespace {

using test::in_child;
using Version = CgroupPlace::Version;

CgroupPlace at(Version version, const char* path) {
    CgroupPlace place;
    place.version = version;
    std::strcpy(place.path, path);
    return place;
}

TEST(Headroom, FindsTheCgroup) {
    const auto expect = [](const char* text, Version version, const char* path) {
        const CgroupPlace place = parse_cgroup_place(text);
        EXPECT_EQ(static_cast<int>(place.version), static_cast<int>(version)) << text;
        EXPECT_STREQ(place.path, path);
    };
    expect("0::/user.slice/app.scope\n", Version::v2, "/user.slice/app.scope");
    expect("0::/\n", Version::v2, "/");
    expect("4:memory:/a/b\n3:cpu:/x\n0::/y\n", Version::v1, "/a/b");
    expect("0::/y\n4:cpu,memory,pids:/a\n", Version::v1, "/a");
    expect("4:memoryless,notmemory:/a\n0::/y", Version::v2, "/y");
    expect("10:memory:/with:colon\n", Version::v1, "/with:colon");
    expect("", Version::none, "");
    expect("nonsense\n::\n7\n", Version::none, "");
    const std::string long_path = "0::/" + std::string(5000, 'x');
    EXPECT_LT(std::strlen(parse_cgroup_place(long_path.c_str()).path), sizeof(CgroupPlace::path));
}

TEST(Headroom, ReadsLimits) {
    EXPECT_EQ(parse_limit("max\n"), NO_LIMIT);
    EXPECT_EQ(parse_limit("0\n"), 0u);
    EXPECT_EQ(parse_limit("1048576\n"), MiB);
    EXPECT_EQ(parse_limit("9223372036854771712\n"), NO_LIMIT) << "what v1 says for none";
    EXPECT_EQ(parse_limit("99999999999999999999999999\n"), NO_LIMIT);
    EXPECT_EQ(parse_limit(""), NO_LIMIT);
}

TEST(Headroom, ReadsStat) {
    const char* text =
        "anon 5\ninactive_file_x 9\nxinactive_file 8\ninactive_file 4096\nactive_file 1\n";
    EXPECT_EQ(parse_stat(text, "inactive_file"), 4096u);
    EXPECT_EQ(parse_stat(text, "active_file"), 1u);
    EXPECT_EQ(parse_stat(text, "file"), 0u);
    EXPECT_EQ(parse_stat("", "file"), 0u);
}

TEST(Headroom, Computes) {
    EXPECT_EQ(headroom_of({NO_LIMIT, 5, 0, 0}), NO_LIMIT);
    EXPECT_EQ(headroom_of({100, 40, 0, 0}), 60u);
    EXPECT_EQ(headroom_of({100, 90, 30, 0}), 40u);
    EXPECT_EQ(headroom_of({100, 90, 30, 20}), 50u) << "page cache in use counts half";
    EXPECT_EQ(headroom_of({100, 120, 0, 0}), 0u);
    EXPECT_EQ(headroom_of({100, 10, 50, 0}), 100u);
}

TEST(Headroom, CountsWhatACommitBringsWithIt) {
    // A page of the smallest blocks: 4096 of them, each with two bits.
    EXPECT_GE(charge_of_commit(SLICE_SIZE), SLICE_SIZE + 2 * 4096 / 8);
    EXPECT_LE(charge_of_commit(SLICE_SIZE), SLICE_SIZE + SLICE_SIZE / 4);
    EXPECT_LE(charge_of_commit(GiB), GiB + GiB / 50) << "large objects need little";
    EXPECT_EQ(charge_of_commit(0), 0u);
}

TEST(Headroom, GrantsNothingThatNoCgroupHas) {
    // Beyond any machine's memory: refused where there is a limit, granted where there is none,
    // and either way the next small request is not disturbed by it.
    in_child([] {
        const bool limited = !cgroup_has_room(u64{1} << 55);
        {
            const CgroupRoom room(u64{1} << 55);
            EXPECT_EQ(!room, limited);
            EXPECT_TRUE(CgroupRoom(SLICE_SIZE)) << "beside one that is held or was refused";
        }
        EXPECT_TRUE(CgroupRoom(SLICE_SIZE));
        forget_cgroup_rooms();
        EXPECT_TRUE(CgroupRoom(SLICE_SIZE));
    });
}

TEST(Headroom, TheTightestAncestorCounts) {
    const test::Directory directory;
    const auto put = [&](const std::string& name, const std::string& text) {
        const std::filesystem::path file = directory.path() + name;
        std::filesystem::create_directories(file.parent_path());
        std::ofstream(file) << text;
    };
    const char* root = directory.path().c_str();
    EXPECT_EQ(cgroup_headroom(root, at(Version::v2, "/a/b")), NO_LIMIT) << "nothing there";
    put("/a/b/memory.max", "max\n");
    put("/a/b/memory.current", "1000\n");
    EXPECT_EQ(cgroup_headroom(root, at(Version::v2, "/a/b")), NO_LIMIT);
    put("/a/memory.max", "5000\n");
    put("/a/memory.current", "4000\n");
    put("/a/memory.stat", "inactive_file 500\nactive_file 500\n");
    EXPECT_EQ(cgroup_headroom(root, at(Version::v2, "/a/b")), 1750u);
    put("/a/b/memory.max", "2000\n");
    EXPECT_EQ(cgroup_headroom(root, at(Version::v2, "/a/b")), 1000u);
    EXPECT_EQ(cgroup_headroom(root, at(Version::v2, "/")), NO_LIMIT);
    EXPECT_EQ(cgroup_headroom(root, at(Version::v2, "/no/such")), NO_LIMIT);
    // In a container the path that the host sees leads nowhere, and the root carries the limit. In
    // v1 names.
    put("/memory.limit_in_bytes", "900\n");
    put("/memory.usage_in_bytes", "100\n");
    put("/memory.stat", "total_inactive_file 10\ntotal_active_file 10\n");
    EXPECT_EQ(cgroup_headroom(root, at(Version::v1, "/docker/0123")), 815u);
}

}  // namespace
}  // namespace aep
