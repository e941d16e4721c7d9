// Purpose: tests of the pool that only root can set the stage for: hugetlbfs, a memory cgroup
//          with a limit, chroot, another user's file. They set up what they need and restore what
//          they changed.
// Who calls it: ctest, label "root".
// Crash rule: mounts end with the child that made them; the number of huge pages and the cgroup
//             are restored by the parent.
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/statfs.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <optional>
#include <thread>
#include <vector>

#include "tests/unit/capabilities.hpp"
#include "tests/unit/own_mounts.hpp"
#include "tests/unit/pool_fork_fixture.hpp"

namespace aep {
namespace {

using namespace test;

constexpr usize HUGE = 2 * MiB;

/// At least `pages` free huge pages of 2 MiB while it lives, if the system has them; one process at
/// a time, whoever runs it.
class HugePages {
  public:
    explicit HugePages(long pages) : lock_(open(COUNT, O_RDONLY | O_CLOEXEC)) {
        if (flock(lock_, LOCK_EX) != 0) return;
        std::ifstream(COUNT) >> before_;
        std::ifstream(FREE) >> free_;
        if (free_ >= pages) return;
        std::ofstream(COUNT) << before_ + pages - free_;
        std::ifstream(FREE) >> free_;
    }
    ~HugePages() {
        std::ofstream(COUNT) << before_;
        close(lock_);
    }
    HugePages(const HugePages&) = delete;
    HugePages& operator=(const HugePages&) = delete;
    long free() const { return free_; }

  private:
    static constexpr const char* COUNT = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    static constexpr const char* FREE = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    int lock_;
    long before_ = 0;
    long free_ = 0;
};

class PoolHugetlb : public ::testing::Test {
  protected:
    void SetUp() override {
        AEP_NEED_CAPABILITY(CAP_SYS_ADMIN);
        AEP_NEED_OWN_MOUNTS();
        pages_.emplace(PAGES);
        if (pages_->free() < PAGES) GTEST_SKIP() << "the system has no 16 huge pages to give";
    }

  private:
    static constexpr long PAGES = 16;
    std::optional<HugePages> pages_;
};

long free_blocks(const std::string& directory) {
    struct statfs fs {};
    EXPECT_EQ(statfs(directory.c_str(), &fs), 0);
    return static_cast<long>(fs.f_bfree);
}

TEST_F(PoolHugetlb, WorksInHugePages) {
    const Directory directory;
    in_child([&] {
        own_mount(directory.path(), "hugetlbfs", "pagesize=2M,size=16m,mode=0700");
        const Backing* b = attach(directory.file(), SMALL);
        EXPECT_EQ(free_blocks(directory.path()), 7) << "only the tables' page is used";
        const ChunkRun run = b->provide(2, 1, NO_CHUNK);
        ASSERT_TRUE(run);
        const uptr address = chunk_address(run.first);
        ASSERT_TRUE(b->commit(address + SLICE_SIZE, SLICE_SIZE));
        EXPECT_EQ(free_blocks(directory.path()), 6);
        ASSERT_TRUE(b->commit(address, 2 * CHUNK_SIZE));
        EXPECT_EQ(free_blocks(directory.path()), 3);
        std::memset(bytes_at(run.first), 1, 2 * CHUNK_SIZE);
        EXPECT_FALSE(b->purge(address + SLICE_SIZE, SLICE_SIZE)) << "less than a huge page";
        EXPECT_EQ(bytes_at(run.first)[SLICE_SIZE], 1);
        EXPECT_TRUE(b->purge(address + HUGE - SLICE_SIZE, HUGE + 2 * SLICE_SIZE));
        EXPECT_EQ(free_blocks(directory.path()), 4) << "the whole one goes";
        EXPECT_EQ(bytes_at(run.first)[HUGE - SLICE_SIZE - 1], 1);
        EXPECT_EQ(bytes_at(run.first)[HUGE - SLICE_SIZE], 0) << "the parts are cleared";
        EXPECT_EQ(bytes_at(run.first)[2 * HUGE + SLICE_SIZE - 1], 0);
        EXPECT_EQ(bytes_at(run.first)[2 * HUGE + SLICE_SIZE], 1);
        ASSERT_TRUE(b->commit(address + HUGE, HUGE));
        bytes_at(run.first)[HUGE] = 1;
        EXPECT_TRUE(b->purge(address + HUGE, HUGE));
        EXPECT_EQ(free_blocks(directory.path()), 4);
        ASSERT_TRUE(b->commit(address + HUGE, SLICE_SIZE));
        EXPECT_EQ(bytes_at(run.first)[HUGE], 0);
        EXPECT_TRUE(b->release(run.first, 2));
        EXPECT_EQ(free_blocks(directory.path()), 7);
    });
}

TEST_F(PoolHugetlb, NoHugePageLeftIsAnErrorAndNoSignal) {
    const Directory directory;
    in_child([&] {
        own_mount(directory.path(), "hugetlbfs", "pagesize=2M,size=8m,mode=0700");
        const Backing* b = attach(directory.file(), SMALL);
        const ChunkRun run = b->provide(3, 1, NO_CHUNK);
        ASSERT_TRUE(run);
        EXPECT_TRUE(b->commit(chunk_address(run.first), CHUNK_SIZE));
        EXPECT_FALSE(b->commit(chunk_address(run.first) + CHUNK_SIZE, CHUNK_SIZE));
        std::memset(bytes_at(run.first), 1, CHUNK_SIZE);
    });
}

TEST_F(PoolHugetlb, ForkGivesTheChildACopyInOrdinaryMemory) {
    const Directory directory;
    in_child([&] {
        // Exactly as many huge pages as the parent uses: a copy in huge pages could not be made.
        own_mount(directory.path(), "hugetlbfs", "pagesize=2M,size=6m,mode=0700");
        const Backing* b = attach(directory.file(), SMALL);
        const ChunkRun run = b->provide(2, 1, NO_CHUNK);
        char* a = bytes_at(run.first);
        ASSERT_TRUE(b->commit(chunk_address(run.first), SLICE_SIZE));
        ASSERT_TRUE(b->commit(chunk_address(run.first) + CHUNK_SIZE, SLICE_SIZE));
        std::memset(a, 1, HUGE);
        a[CHUNK_SIZE] = 2;
        const Signal parent_wrote;
        ASSERT_TRUE(b->fork_prepare());
        const pid_t child = start_child([&] {
            b->fork_child();
            parent_wrote.wait();
            EXPECT_EQ(a[0], 1);
            EXPECT_EQ(a[HUGE - 1], 1);
            EXPECT_EQ(a[HUGE], 0) << "never used: reads as zero and costs no huge page";
            EXPECT_EQ(a[CHUNK_SIZE], 2);
            std::memset(a, 3, 2 * CHUNK_SIZE);
            EXPECT_FALSE(b->release(run.first, 1));
            EXPECT_EQ(a[0], 0) << "purged";
            EXPECT_TRUE(b->purge(chunk_address(run.first) + CHUNK_SIZE, CHUNK_SIZE));
            EXPECT_EQ(a[CHUNK_SIZE], 0);
            const ChunkRun own = b->provide(1, 1, NO_CHUNK);
            ASSERT_TRUE(own);
            EXPECT_GE(raw(own.first), raw(run.first) + 2);
            EXPECT_LT(raw(own.first), SMALL_CHUNKS);
            a[1] = 4;
            ASSERT_TRUE(b->fork_prepare());
            const pid_t grandchild = start_child([&] {
                b->fork_child();
                EXPECT_EQ(a[1], 4);
                a[1] = 5;
            });
            b->fork_parent();
            EXPECT_EQ(wait_for(grandchild), 0);
            EXPECT_EQ(a[1], 4);
        });
        b->fork_parent();
        a[0] = 7;
        parent_wrote.say();
        EXPECT_EQ(wait_for(child), 0);
        EXPECT_EQ(a[0], 7);
        EXPECT_EQ(a[1], 1);
        EXPECT_TRUE(b->release(run.first, 2)) << "the parent's are shared as before";
        EXPECT_EQ(free_blocks(directory.path()), 2);
    });
}

TEST_F(PoolHugetlb, TheDeadGiveEverythingBack) {
    const Directory directory;
    in_child([&] {
        own_mount(directory.path(), "hugetlbfs", "pagesize=2M,mode=0700");
        in_child([&] {
            const Backing* b = attach(directory.file(), SMALL);
            const ChunkRun run = b->provide(SMALL_CHUNKS, 1, NO_CHUNK);
            ASSERT_TRUE(b->commit(chunk_address(run.first), 2 * CHUNK_SIZE));
            std::memset(bytes_at(run.first), 1, 2 * CHUNK_SIZE);
        });
        in_child([&] {
            const Backing* b = attach(directory.file());
            const ChunkRun run = b->provide(SMALL_CHUNKS, 1, NO_CHUNK);
            ASSERT_TRUE(run);
            ASSERT_TRUE(b->commit(chunk_address(run.first), 2 * CHUNK_SIZE));
            EXPECT_EQ(bytes_at(run.first)[0], 0);
            EXPECT_EQ(std::memcmp(bytes_at(run.first), bytes_at(run.first) + 1, 2 * CHUNK_SIZE - 1),
                      0);
        });
    });
}

/// A memory cgroup with a limit, below the hierarchy's root, in whichever version this system has.
class LimitedCgroup {
  public:
    static bool possible() { return access(parent(), W_OK) == 0; }

    explicit LimitedCgroup(usize limit)
        : path_(std::string(parent()) + "/aep-test-" + std::to_string(getpid())) {
        const bool v1 = is_v1();
        if (!v1) std::ofstream("/sys/fs/cgroup/cgroup.subtree_control") << "+memory";
        EXPECT_EQ(mkdir(path_.c_str(), 0755), 0) << path_;
        std::ofstream(path_ + (v1 ? "/memory.limit_in_bytes" : "/memory.max")) << limit;
    }
    ~LimitedCgroup() { EXPECT_EQ(rmdir(path_.c_str()), 0); }
    LimitedCgroup(const LimitedCgroup&) = delete;
    LimitedCgroup& operator=(const LimitedCgroup&) = delete;
    void enter() const { write_file((path_ + "/cgroup.procs").c_str(), std::to_string(getpid())); }

  private:
    static bool is_v1() {
        return std::filesystem::exists("/sys/fs/cgroup/memory/memory.usage_in_bytes");
    }
    static const char* parent() { return is_v1() ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup"; }

    std::string path_;
};

class PoolCgroup : public ::testing::Test {
  protected:
    void SetUp() override {
        if (!LimitedCgroup::possible()) GTEST_SKIP() << "no memory cgroup can be made";
    }
};

TEST_F(PoolCgroup, TheLimitIsAnErrorAndNoKill) {
    const Directory directory;
    const LimitedCgroup cgroup(64 * MiB);
    in_child([&] {
        cgroup.enter();
        const Backing* b = attach(directory.file(), 256 * MiB);
        u32 good = 0;
        for (;; ++good) {
            const ChunkRun run = b->provide(1, 1, NO_CHUNK);
            ASSERT_TRUE(run) << "addresses there are enough";
            if (!b->commit(chunk_address(run.first), CHUNK_SIZE)) break;
            std::memset(bytes_at(run.first), 1, CHUNK_SIZE);
        }
        EXPECT_GE(good, 8u);
        EXPECT_LE(good, 16u);
        EXPECT_TRUE(b->release(ChunkIndex{0}, 1));
        const ChunkRun again = b->provide(1, 1, NO_CHUNK);
        EXPECT_TRUE(b->commit(chunk_address(again.first), CHUNK_SIZE / 2)) << "room again";
    });
    std::filesystem::remove(directory.file());
}

/// Threads that commit slice after slice until they are refused; how many slices in all. Each takes
/// every chunk's slices in turn, so that the limit meets all of them at once.
u32 commit_in_threads(const Backing* b, const std::vector<ChunkIndex>& chunks) {
    std::atomic<u32> next{0};
    std::atomic<u32> good{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 6; ++t) {
        threads.emplace_back([&] {
            for (;;) {
                const u32 i = next.fetch_add(1);
                if (i >= chunks.size() * SLICES_PER_CHUNK) return;
                const uptr at =
                    chunk_address(chunks[i / SLICES_PER_CHUNK]) + i % SLICES_PER_CHUNK * SLICE_SIZE;
                if (!b->commit(at, SLICE_SIZE)) return;
                std::memset(reinterpret_cast<void*>(at), 1, SLICE_SIZE);
                good.fetch_add(1);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    return good.load();
}

TEST_F(PoolCgroup, ThreadsThatCommitAtOnceAreNotKilled) {
    const Directory directory;
    const LimitedCgroup cgroup(64 * MiB);
    in_child([&] {
        cgroup.enter();
        const Backing* b = attach(directory.file(), 256 * MiB);
        std::vector<ChunkIndex> chunks;
        for (u32 i = 0; i < 32; ++i) chunks.push_back(b->provide(1, 1, NO_CHUNK).first);
        for (int round = 0; round < 5; ++round) {
            const u32 good = commit_in_threads(b, chunks);
            EXPECT_GE(good, 40 * MiB / SLICE_SIZE) << "round " << round;
            EXPECT_LE(good, 64 * MiB / SLICE_SIZE);
            for (const ChunkIndex chunk : chunks)
                EXPECT_TRUE(b->purge(chunk_address(chunk), CHUNK_SIZE));
        }
    });
    std::filesystem::remove(directory.file());
}

TEST_F(PoolCgroup, CommitsAfterAForkCountForTwo) {
    const Directory directory;
    const LimitedCgroup cgroup(64 * MiB);
    in_child([&] {
        cgroup.enter();
        const Backing* b = attach(directory.file(), 256 * MiB);
        constexpr u32 CHUNKS = 5;
        const ChunkRun run = b->provide(3 * CHUNKS, 1, NO_CHUNK);
        ASSERT_TRUE(run);
        ASSERT_TRUE(b->fork_prepare());
        const pid_t child = start_child([&] {
            b->fork_child();
            const uptr first = chunk_address(run.first);
            EXPECT_TRUE(b->commit(first, CHUNKS * CHUNK_SIZE)) << "40 MiB with what is below it";
            EXPECT_FALSE(b->commit(first + CHUNKS * CHUNK_SIZE, CHUNKS * CHUNK_SIZE));
            EXPECT_TRUE(b->commit(first + CHUNKS * CHUNK_SIZE, CHUNK_SIZE));
        });
        b->fork_parent();
        EXPECT_EQ(wait_for(child), 0) << "what was private could be filled without a kill";
    });
    std::filesystem::remove(directory.file());
}

TEST_F(PoolCgroup, AForkThatWouldCopyBeyondTheLimitIsRefused) {
    const Directory directory;
    const LimitedCgroup cgroup(64 * MiB);
    const Output out = stderr_of([&] {
        cgroup.enter();
        const Backing* b = attach(directory.file(), 256 * MiB);
        for (u32 i = 0; i < 10; ++i) std::memset(bytes_at(take(b)), 1, CHUNK_SIZE);
        let_fork_copy();
        EXPECT_FALSE(b->fork_prepare());
        b->fork_parent();
    });
    EXPECT_EQ(out.status, 0);
    EXPECT_NE(out.text.find("no memory to copy 40 MiB"), std::string::npos) << out.text;
    std::filesystem::remove(directory.file());
}

TEST(PoolPath, ChrootMeansPrivateMemoryAfterAFork) {
    AEP_NEED_CAPABILITY(CAP_SYS_CHROOT);
    const Directory directory;
    const Output out = stderr_of([&] {
        const Backing* b = attach(directory.file(), SMALL);
        const ChunkRun run = b->provide(1, 1, NO_CHUNK);
        ASSERT_TRUE(b->commit(chunk_address(run.first), SLICE_SIZE));
        bytes_at(run.first)[0] = 1;
        ASSERT_EQ(chroot("/proc/self/fdinfo"), 0);
        EXPECT_TRUE(b->provide(1, 1, NO_CHUNK)) << "a node goes on taking chunks without the path";
        ASSERT_TRUE(b->fork_prepare());
        const pid_t child = start_child([&] {
            b->fork_child();
            EXPECT_GE(raw(b->provide(1, 1, NO_CHUNK).first), SMALL_CHUNKS);
            EXPECT_EQ(bytes_at(run.first)[0], 1);
        });
        b->fork_parent();
        EXPECT_EQ(wait_for(child), 0);
    });
    EXPECT_EQ(out.status, 0);
    EXPECT_NE(out.text.find("going on with private memory"), std::string::npos) << out.text;
}

TEST(PoolFile, BelongsToOneUser) {
    AEP_NEED_CAPABILITY(CAP_CHOWN);
    AEP_NEED_CAPABILITY(CAP_SETUID);
    const Directory directory;
    ASSERT_EQ(chmod(directory.path().c_str(), 0777), 0);
    in_child([&] { attach(directory.file(), SMALL); });
    ASSERT_EQ(chown(directory.file().c_str(), 12345, 12345), 0);
    const Output mine =
        stderr_of([&] { EXPECT_EQ(pool_backing(directory.file().c_str(), 0), nullptr); });
    EXPECT_NE(mine.text.find("belongs to user 12345, expected 0"), std::string::npos) << mine.text;
    in_child([&] {
        ASSERT_EQ(setuid(12345), 0);
        EXPECT_TRUE(attach(directory.file())->provide(1, 1, NO_CHUNK));
    });
}

}  // namespace
}  // namespace aep
