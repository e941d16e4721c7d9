// Purpose: unit tests of a pool whose file system has no room, and of kernels and file systems
//          that lack something.
// Who calls it: ctest.
// Crash rule: file systems are mounted in a child's own namespace and end with it.
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cstring>

#include "shim/backing/huge_pages.hpp"
#include "tests/unit/own_mounts.hpp"
#include "tests/unit/pool_fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep {
namespace {

using namespace test;

constexpr usize SMALL = 32 * MiB;
constexpr u32 SMALL_CHUNKS = 7;

TEST(PoolExhausted, AFullTmpfsIsAnErrorAndNoSignal) {
    AEP_NEED_OWN_MOUNTS();
    const Directory directory;
    in_child([&] {
        own_mount(directory.path(), "tmpfs", "size=10m,mode=0700");
        const Backing* b = attach(directory.file(), SMALL);
        u32 good = 0;
        ChunkRun last;
        for (u32 i = 0; i < SMALL_CHUNKS; ++i) {
            last = b->provide(1, 1, NO_CHUNK);
            ASSERT_TRUE(last) << "addresses there are";
            if (!b->commit(chunk_address(last.first), CHUNK_SIZE)) break;
            std::memset(bytes_at(last.first), 1, CHUNK_SIZE);
            ++good;
        }
        EXPECT_EQ(good, 2u);
        EXPECT_FALSE(b->commit(chunk_address(last.first), CHUNK_SIZE)) << "still full";
        EXPECT_TRUE(b->release(last.first, 1)) << "what the failed commit got is given back";
        EXPECT_TRUE(b->purge(chunk_address(ChunkIndex{0}), CHUNK_SIZE));
        const ChunkRun again = b->provide(1, 1, NO_CHUNK);
        EXPECT_TRUE(b->commit(chunk_address(again.first), CHUNK_SIZE));
        std::memset(bytes_at(again.first), 1, CHUNK_SIZE);
    });
}

TEST(PoolExhausted, ForkOnAFullTmpfsWorks) {
    AEP_NEED_OWN_MOUNTS();
    const Directory directory;
    in_child([&] {
        own_mount(directory.path(), "tmpfs", "size=10m,mode=0700");
        const Backing* b = attach(directory.file(), SMALL);
        const ChunkRun run = b->provide(3, 1, NO_CHUNK);
        EXPECT_FALSE(b->commit(chunk_address(run.first), 3 * CHUNK_SIZE));
        EXPECT_TRUE(b->commit(chunk_address(run.first), CHUNK_SIZE));
        std::memset(bytes_at(run.first), 1, CHUNK_SIZE);
        ASSERT_TRUE(b->fork_prepare());
        const pid_t child = start_child([&] {
            b->fork_child();
            std::memset(bytes_at(run.first), 2, CHUNK_SIZE);
            EXPECT_FALSE(b->commit(chunk_address(run.first), 3 * CHUNK_SIZE))
                << "the file cannot grow";
        });
        b->fork_parent();
        std::memset(bytes_at(run.first), 3, CHUNK_SIZE);
        EXPECT_EQ(wait_for(child), 0);
        EXPECT_EQ(bytes_at(run.first)[CHUNK_SIZE - 1], 3);
    });
}

TEST(PoolExhausted, NoRoomForTheTablesMeansNoPool) {
    AEP_NEED_OWN_MOUNTS();
    const Directory directory;
    in_child([&] {
        own_mount(directory.path(), "tmpfs", "size=8k,mode=0700");
        const Output out =
            stderr_of([&] { EXPECT_EQ(pool_backing(directory.file().c_str(), SMALL), nullptr); });
        EXPECT_EQ(out.status, 0);
        EXPECT_NE(out.text.find("no space for its tables"), std::string::npos) << out.text;
        EXPECT_TRUE(directory.names().empty());
    });
}

TEST(PoolExhausted, TablesWithHolesOnAFullTmpfsAreRefused) {
    AEP_NEED_OWN_MOUNTS();
    const Directory directory;
    const std::string path = directory.file();
    in_child([&] {
        own_mount(directory.path(), "tmpfs", "size=10m,mode=0700");
        in_child([&] { attach(path, SMALL); });
        const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
        ASSERT_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, SUPERBLOCK_BYTES,
                            OS_PAGE_SIZE),
                  0);
        close(fd);
        const int filler =
            open(directory.file("filler").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        char block[4096] = {};
        while (write(filler, block, sizeof block) == static_cast<ssize_t>(sizeof block)) {
        }
        close(filler);
        const Output out = stderr_of([&] { EXPECT_EQ(pool_backing(path.c_str(), 0), nullptr); });
        EXPECT_EQ(out.status, 0);
        EXPECT_NE(out.text.find("no memory for its tables"), std::string::npos) << out.text;
    });
}

usize bytes_of(const std::string& path) {
    struct stat facts {};
    EXPECT_EQ(stat(path.c_str(), &facts), 0);
    return static_cast<usize>(facts.st_blocks) * 512;
}

TEST(PoolTmpfs, SmallProcessesGetSmallPagesUntilTheyUseMore) {
    AEP_NEED_OWN_MOUNTS();
    const Directory directory;
    in_child([&] {
        own_mount(directory.path(), "tmpfs", "huge=advise,size=64m,mode=0700");
        const Backing* b = attach(directory.file(), SMALL);
        use_huge_pages(CHUNK_SIZE);
        const usize empty = bytes_of(directory.file());
        const ChunkRun first = b->provide(1, 1, NO_CHUNK);
        EXPECT_FALSE(first.coarse);
        const uptr lower = chunk_address(first.first);
        const uptr upper = lower + CHUNK_SIZE / 2;
        ASSERT_TRUE(b->commit(lower, OS_PAGE_SIZE));
        EXPECT_EQ(bytes_of(directory.file()) - empty, OS_PAGE_SIZE);
        ASSERT_TRUE(b->commit(lower + OS_PAGE_SIZE, MiB / 2 - OS_PAGE_SIZE));
        ASSERT_TRUE(b->commit(upper, OS_PAGE_SIZE));
        EXPECT_EQ(bytes_of(directory.file()) - empty, MiB / 2 + 2 * MiB)
            << "a quarter of the lower half is in use";
        serve_heaps(2);
        EXPECT_FALSE(b->provide(1, 1, NO_CHUNK).coarse) << "a chunk for each of two threads";
        EXPECT_TRUE(b->provide(1, 1, NO_CHUNK).coarse);
        serve_heaps(0);
        use_huge_pages(~usize{0});
        EXPECT_FALSE(b->provide(1, 1, NO_CHUNK).coarse) << "never";
    });
}

TEST(PoolTmpfs, TheUpperHalfOfAChunkKeepsSmallPagesWhereLittleIsUsed) {
    AEP_NEED_OWN_MOUNTS();
    const Directory directory;
    in_child([&] {
        own_mount(directory.path(), "tmpfs", "huge=advise,size=64m,mode=0700");
        const Backing* b = attach(directory.file(), SMALL);
        use_huge_pages(CHUNK_SIZE);
        const usize empty = bytes_of(directory.file());
        const uptr lower = chunk_address(b->provide(1, 1, NO_CHUNK).first);
        ASSERT_TRUE(b->commit(lower, MiB / 2 - OS_PAGE_SIZE));
        ASSERT_TRUE(b->commit(lower + CHUNK_SIZE / 2, OS_PAGE_SIZE));
        EXPECT_EQ(bytes_of(directory.file()) - empty, MiB / 2);
    });
}

TEST(PoolTmpfs, HugePagesAreMadeWhereTheMountGivesThem) {
    AEP_NEED_OWN_MOUNTS();
    const Directory directory;
    in_child([&] {
        own_mount(directory.path(), "tmpfs", "huge=advise,size=64m,mode=0700");
        const Backing* b = attach(directory.file(), SMALL);
        const usize before = bytes_of(directory.file());
        const ChunkRun run = b->provide(2, 1, NO_CHUNK);
        EXPECT_TRUE(run.coarse);
        ASSERT_TRUE(b->commit(chunk_address(run.first), SLICE_SIZE));
        const usize taken = bytes_of(directory.file()) - before;
        EXPECT_GE(taken, 2 * MiB) << "one huge page";
        EXPECT_LT(taken, 3 * MiB) << "and only one";
        bytes_at(run.first)[0] = 1;
        EXPECT_TRUE(b->purge(chunk_address(run.first), CHUNK_SIZE));
        ASSERT_TRUE(b->commit(chunk_address(run.first), SLICE_SIZE));
        EXPECT_EQ(bytes_at(run.first)[0], 0);
    });
}

TEST(PoolElsewhere, OrdinaryFileSystemsWorkToo) {
    const Directory directory("/var/tmp");
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        const ChunkRun run = b->provide(2, 1, NO_CHUNK);
        ASSERT_TRUE(b->commit(chunk_address(run.first), 2 * CHUNK_SIZE));
        std::memset(bytes_at(run.first), 1, 2 * CHUNK_SIZE);
        ASSERT_TRUE(b->fork_prepare());
        const pid_t child = start_child([&] {
            b->fork_child();
            EXPECT_EQ(bytes_at(run.first)[5], 1);
            bytes_at(run.first)[5] = 2;
            EXPECT_TRUE(b->provide(1, 1, NO_CHUNK));
        });
        b->fork_parent();
        EXPECT_EQ(wait_for(child), 0);
        EXPECT_EQ(bytes_at(run.first)[5], 1);
    });
    expect_all_chunks_come_back(directory.file());
}

TEST(PoolElsewhere, FileSystemsWithoutNamelessFilesWork) {
    for (const unsigned rename_error : {0u, unsigned{EINVAL}}) {
        const Directory directory;
        in_child([&] {
            refuse_call(SYS_openat, 2, O_TMPFILE, EOPNOTSUPP);
            if (rename_error != 0) refuse_call(SYS_renameat2, 4, 1, rename_error);
            EXPECT_TRUE(attach(directory.file(), SMALL)->provide(1, 1, NO_CHUNK));
            EXPECT_EQ(directory.names(), std::vector<std::string>{"pool"});
        });
    }
}

TEST(PoolElsewhere, FileSystemsWithoutHolesAreRefused) {
    const Directory directory;
    const Output out = stderr_of([&] {
        refuse_call(SYS_fallocate, 1, FALLOC_FL_PUNCH_HOLE, EOPNOTSUPP);
        EXPECT_EQ(pool_backing(directory.file().c_str(), SMALL), nullptr);
    });
    EXPECT_NE(out.text.find("cannot punch holes"), std::string::npos) << out.text;
    EXPECT_TRUE(directory.names().empty());
}

TEST(PoolElsewhere, FileSystemsWithoutLocksAreRefused) {
    const Directory directory;
    const Output out = stderr_of([&] {
        refuse_call(SYS_fcntl, 1, F_OFD_SETLK, ENOLCK);
        EXPECT_EQ(pool_backing(directory.file().c_str(), SMALL), nullptr);
    });
    EXPECT_NE(out.text.find("no file locks of open file descriptions"), std::string::npos)
        << out.text;
    EXPECT_TRUE(directory.names().empty());
}

TEST(PoolElsewhere, KernelsBeforePopulateWriteWork) {
    AEP_NEED_OWN_MOUNTS();
    const Directory directory;
    in_child([&] {
        own_mount(directory.path(), "tmpfs", "size=10m,mode=0700");
        refuse_call(SYS_madvise, 2, 23, EINVAL);  // MADV_POPULATE_WRITE
        const Backing* b = attach(directory.file(), SMALL);
        const ChunkRun run = b->provide(3, 1, NO_CHUNK);
        EXPECT_TRUE(b->commit(chunk_address(run.first), CHUNK_SIZE));
        std::memset(bytes_at(run.first), 1, CHUNK_SIZE);
        EXPECT_FALSE(b->commit(chunk_address(run.first), 3 * CHUNK_SIZE))
            << "an error, not a signal";
        EXPECT_EQ(bytes_at(run.first)[CHUNK_SIZE - 1], 1);
    });
}

TEST(PoolElsewhere, APlaceWithoutProcWorks) {
    AEP_NEED_OWN_MOUNTS();
    const Directory directory;
    in_child([&] {
        own_mount("/proc", "tmpfs", nullptr);  // an empty one
        EXPECT_TRUE(attach(directory.file(), SMALL)->provide(1, 1, NO_CHUNK));
    });
    EXPECT_EQ(check(directory.file()).owned_chunks, 1u);
}

}  // namespace
}  // namespace aep
