// Purpose: unit tests of a pool whose path leads elsewhere meanwhile, and of how memory is made present.
// Who calls it: ctest.
// Crash rule: pools live in a directory that each test removes.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "shim/backing/populate.hpp"
#include "tests/unit/pool_fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep {
namespace {

using namespace test;

constexpr usize SMALL = 32 * MiB;
constexpr u32 SMALL_CHUNKS = 7;

TEST(PoolPath, GoneOrReplacedMeansPrivateMemoryAndOneMessage) {
    const Directory directory;
    const Output out = stderr_of([&] {
        const Backing* b = attach(directory.file(), SMALL);
        ASSERT_EQ(unlink(directory.file().c_str()), 0);
        for (u32 i = 0; i < 20; ++i) {
            const ChunkRun run = b->provide(1, 1, NO_CHUNK);
            ASSERT_TRUE(run);
            EXPECT_GE(raw(run.first), SMALL_CHUNKS);
            EXPECT_TRUE(b->commit(chunk_address(run.first), CHUNK_SIZE));
            bytes_at(run.first)[CHUNK_SIZE - 1] = 1;
            EXPECT_TRUE(b->purge(chunk_address(run.first), CHUNK_SIZE));
            EXPECT_EQ(bytes_at(run.first)[CHUNK_SIZE - 1], 0);
            EXPECT_TRUE(b->provide(1, 1, ChunkIndex{raw(run.first) + 1}));
            EXPECT_TRUE(b->release(run.first, 2));
        }
    });
    EXPECT_EQ(out.status, 0);
    EXPECT_NE(out.text.find("going on with private memory"), std::string::npos) << out.text;
    EXPECT_EQ(std::count(out.text.begin(), out.text.end(), '\n'), 1) << out.text;
}

TEST(PoolPath, AnotherPoolAtThePathIsNotOurs) {
    const Directory directory;
    in_child([&] { attach(directory.file("other"), SMALL); });
    const Output out = stderr_of([&] {
        const Backing* b = attach(directory.file(), SMALL);
        ASSERT_EQ(rename(directory.file("other").c_str(), directory.file().c_str()), 0);
        EXPECT_GE(raw(b->provide(1, 1, NO_CHUNK).first), SMALL_CHUNKS);
    });
    EXPECT_NE(out.text.find("the path leads to another file now"), std::string::npos) << out.text;
    EXPECT_EQ(check(directory.file()).owned_chunks, 0u);
}

TEST(Populate, OldKernelsWayKeepsContentsAndMakesPagesPresent) {
    const usize bytes = 16 * OS_PAGE_SIZE;
    char* at = static_cast<char*>(
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    at[5 * OS_PAGE_SIZE] = 9;
    EXPECT_TRUE(populate_by_futex(reinterpret_cast<uptr>(at), bytes));
    unsigned char present[16];
    ASSERT_EQ(mincore(at, bytes, present), 0);
    for (const unsigned char page : present) EXPECT_EQ(page & 1, 1);
    EXPECT_EQ(at[5 * OS_PAGE_SIZE], 9);
    ASSERT_EQ(mprotect(at + 8 * OS_PAGE_SIZE, OS_PAGE_SIZE, PROT_READ), 0);
    EXPECT_FALSE(populate_by_futex(reinterpret_cast<uptr>(at), bytes)) << "an error, not a signal";
    munmap(at, bytes);
}

constexpr unsigned POPULATE_WRITE = 23;  // MADV_POPULATE_WRITE, which older headers lack

/// A page to be made present.
uptr new_page() {
    return reinterpret_cast<uptr>(
        mmap(nullptr, OS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

TEST(Populate, ASignalThatCutsItOffIsNoError) {
    in_child([] {
        answer_call(
            __NR_madvise, 2, POPULATE_WRITE,
            [](int visit) -> long { return visit == 1   ? -EINTR
                                           : visit == 2 ? -EAGAIN
                                                        : 0; });
        EXPECT_TRUE(populate(new_page(), OS_PAGE_SIZE));
    });
}

/// Only who does not know the call is asked in another way, page by page.
TEST(Populate, NoMemoryIsAnErrorAtOnce) {
    in_child([] {
        refuse_call(__NR_madvise, 2, POPULATE_WRITE, ENOMEM);
        for (int i = 0; i < 2; ++i) EXPECT_FALSE(populate(new_page(), OS_PAGE_SIZE));
    });
}

}  // namespace
}  // namespace aep
