// Purpose: kills a process at every named point of its work on a pool and proves that every chunk
//          comes back, clean, that a living neighbour notices nothing, and that no half-made file
//          is left. A point that is never reached fails.
// Who calls it: ctest; built with -DAEP_CRASH_POINTS from the pool's own sources.
// Crash rule: this is the test of the pool's crash rules.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>

#include <cstring>

#include "dsm-core/pool/crash_points.hpp"
#include "tests/unit/growing.hpp"
#include "tests/unit/pool_fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep {
namespace {

using namespace test;

constexpr usize SMALL = 48 * MiB;
constexpr u32 SMALL_CHUNKS = 11;

/// What the hook does, shared by all processes of one test.
struct Plan {
    const char* target = nullptr;  // the point to die at
    int nth = 0;                   // at which visit of it
    int visits = 0;                //
    bool died = false;             // somebody did
    bool interfered = false;       // a chunk was taken under a run that was being claimed
};

Plan* plan = nullptr;

/// Plays another process that takes a chunk of the run that is being claimed, and dies.
void take_a_chunk_of_the_run() {
    const PoolTables& tables = pool_here().tables;
    for (u32 i = tables.chunk_count; i-- > 0;) {
        if (tables.chunk(i).bits == FREE_CHUNK.bits) {
            const u32 other = tables.node_count - 1;
            tables.nodes[other].word.store(PoolNodeWord::make(PoolNodeState::live, 1).bits);
            tables.words[i].store(ChunkWord::owned(other, 1).bits);
            return;
        }
    }
}

bool claiming_a_huge_run = false;

void at_point(const char* name) {
    if (claiming_a_huge_run && !plan->interfered &&
        std::strcmp(name, "claim: one chunk of run") == 0) {
        plan->interfered = true;
        take_a_chunk_of_the_run();
    }
    if (plan->target != nullptr && !plan->died && std::strcmp(name, plan->target) == 0 &&
        ++plan->visits == plan->nth) {
        plan->died = true;
        kill(getpid(), SIGKILL);
    }
}

/// All that a process does with a pool, every point on the way.
void work(const std::string& path) {
    crash_point_hook = at_point;
    const Backing* b = attach(path, SMALL);
    const ChunkRun one = b->provide(1, 1, NO_CHUNK);  // reclaims what the dead held
    EXPECT_TRUE(one);
    EXPECT_TRUE(b->commit(chunk_address(one.first), CHUNK_SIZE));
    std::memset(bytes_at(one.first), 1, CHUNK_SIZE);
    const ChunkRun run = b->provide(3, 1, NO_CHUNK);
    EXPECT_TRUE(run);
    EXPECT_TRUE(b->commit(chunk_address(run.first), 3 * CHUNK_SIZE));
    std::memset(bytes_at(run.first), 2, 3 * CHUNK_SIZE);
    claiming_a_huge_run = true;
    // All that is free now. The other's chunk is in the way; without it, and with what was rolled
    // back, the run can be had.
    EXPECT_TRUE(b->provide(6, 1, NO_CHUNK));
    claiming_a_huge_run = false;
    EXPECT_TRUE(b->release(run.first, 3));
    EXPECT_TRUE(b->fork_prepare());
    const pid_t child = start_child([&] {
        b->fork_child();
        EXPECT_TRUE(b->provide(1, 1, NO_CHUNK));
        EXPECT_EQ(bytes_at(one.first)[0], 1);
    });
    b->fork_parent();
    const int status = wait_for(child);
    EXPECT_TRUE(status == 0 || (plan->died && status == SIGKILL));
    EXPECT_TRUE(b->provide(1, 1, NO_CHUNK));
}

class CrashPoint : public ::testing::Test {
  protected:
    void SetUp() override {
        void* shared =
            mmap(nullptr, OS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ASSERT_NE(shared, MAP_FAILED);
        plan = new (shared) Plan;
    }
    void TearDown() override { munmap(plan, OS_PAGE_SIZE); }

    /// One process works, and dies at the nth visit of `point`. Whether it got there.
    static bool dies_at(const std::string& path, const char* point, int nth) {
        *plan = {};
        plan->target = point;
        plan->nth = nth;
        const int status = wait_for(start_child([&] { work(path); }));
        EXPECT_TRUE(status == 0 || (plan->died && status == SIGKILL)) << point << ": " << status;
        return plan->died;
    }
};

bool is_of_creation(const char* point) { return std::strncmp(point, "create: ", 8) == 0; }
bool is_of_growth(const char* point) { return std::strncmp(point, "grow: ", 6) == 0; }

/// With a neighbour that lives throughout, and a dead one that held nearly everything.
bool survives(const char* point, int nth, bool (*dies_at)(const std::string&, const char*, int)) {
    const Directory directory;
    const std::string path = directory.file();
    const Signal ready, end;
    const pid_t neighbour = start_child([&] {
        const Backing* b = attach(path, SMALL);
        const ChunkRun run = b->provide(1, 1, NO_CHUNK);
        ASSERT_TRUE(b->commit(chunk_address(run.first), CHUNK_SIZE));
        std::memset(bytes_at(run.first), 0x5a, CHUNK_SIZE);
        ready.say();
        end.wait();
        const char* bytes = bytes_at(run.first);
        EXPECT_EQ(bytes[0], 0x5a);
        EXPECT_EQ(std::memcmp(bytes, bytes + 1, CHUNK_SIZE - 1), 0);
    });
    ready.wait();
    in_child([&] {
        const Backing* b = attach(path);
        EXPECT_EQ(take_all(b), SMALL_CHUNKS - 1);
        EXPECT_TRUE(b->commit(chunk_address(ChunkIndex{1}), CHUNK_SIZE));
        std::memset(bytes_at(ChunkIndex{1}), 9, CHUNK_SIZE);
    });
    const bool died = dies_at(path, point, nth);
    check(path);
    EXPECT_TRUE(free_chunks_are_clean(path)) << point;
    in_child([&] { EXPECT_EQ(take_all(attach(path)), SMALL_CHUNKS - 1) << point; });
    end.say();
    EXPECT_EQ(wait_for(neighbour), 0) << point;
    expect_all_chunks_come_back(path);
    return died;
}

TEST_F(CrashPoint, EveryPointOfTheWorkIsSurvived) {
    for (const char* point : POOL_CRASH_POINTS)
        if (!is_of_creation(point) && !is_of_growth(point))
            EXPECT_TRUE(survives(point, 1, dies_at)) << point << " was never reached";
}

TEST_F(CrashPoint, LaterVisitsAreSurvivedToo) {
    for (const char* point : {"claim: one chunk of run", "rollback: one chunk",
                              "release: one chunk", "reclaim: punched", "reclaim: one chunk"})
        for (int nth = 2; nth <= 3; ++nth)
            EXPECT_TRUE(survives(point, nth, dies_at)) << point << " visit " << nth;
}

TEST_F(CrashPoint, CreationIsWholeOrNotAtAll) {
    for (const char* point : POOL_CRASH_POINTS) {
        if (!is_of_creation(point)) continue;
        const Directory directory;
        EXPECT_TRUE(dies_at(directory.file(), point, 1)) << point << " was never reached";
        const bool named = std::strcmp(point, "create: named") == 0;
        EXPECT_EQ(directory.names().size(), named ? 1u : 0u) << point;
        in_child([&] { attach(directory.file(), SMALL); });
        expect_all_chunks_come_back(directory.file());
        EXPECT_EQ(directory.names().size(), 1u);
    }
}

TEST_F(CrashPoint, WhoDiesWhileItGrowsLeavesTheOldSizeOrTheNewOne) {
    for (const char* point : POOL_CRASH_POINTS) {
        if (!is_of_growth(point)) continue;
        const Directory directory;
        const std::string path = directory.file();
        make_roomy_pool(path);
        const Signal full, died, looked, grown;
        const pid_t user = start_child([&] {  // it has all there is
            const Backing* b = attach(path);
            EXPECT_EQ(take_all(b), ROOMY_CHUNKS);
            full.say();
            died.wait();
            const u32 more = take_all(b);
            EXPECT_EQ(more, std::strcmp(point, "grow: told") == 0 ? ROOM_CHUNKS - ROOMY_CHUNKS : 0);
            looked.say();
            grown.wait();
            EXPECT_EQ(more + take_all(b), ROOM_CHUNKS - ROOMY_CHUNKS);
        });
        full.wait();
        *plan = {};
        plan->target = point;
        plan->nth = 1;
        const int status = wait_for(start_child([&] {
            crash_point_hook = at_point;
            grow(path, ROOM_BYTES);
        }));
        EXPECT_EQ(status, SIGKILL) << point << " was never reached";
        check(path);
        died.say();
        looked.wait();
        in_child([&] { EXPECT_TRUE(grow(path, ROOM_BYTES)); });  // the lock has gone with the dead
        grown.say();
        EXPECT_EQ(wait_for(user), 0) << point;
        expect_all_chunks_come_back(path);
    }
}

TEST_F(CrashPoint, CreationWithATemporaryNameIsWholeOrNotAtAll) {
    for (const char* point : {"create: header written", "create: named"}) {
        const Directory directory;
        *plan = {};
        plan->target = point;
        plan->nth = 1;
        const int status = wait_for(start_child([&] {
            refuse_call(SYS_openat, 2, O_TMPFILE, EOPNOTSUPP);
            work(directory.file());
        }));
        EXPECT_EQ(status, SIGKILL);
        EXPECT_EQ(std::filesystem::exists(directory.file()),
                  std::strcmp(point, "create: named") == 0);
        expect_all_chunks_come_back(directory.file());
    }
}

TEST_F(CrashPoint, ARecovererKilledAgainAndAgainIsFollowedByAnother) {
    const Directory directory;
    in_child([&] { EXPECT_EQ(take_all(attach(directory.file(), SMALL)), SMALL_CHUNKS); });
    for (const char* point : POOL_CRASH_POINTS) {
        if (std::strncmp(point, "reclaim: ", 9) == 0 || std::strncmp(point, "node: ", 6) == 0) {
            EXPECT_TRUE(dies_at(directory.file(), point, 1)) << point;
            check(directory.file());
            EXPECT_TRUE(free_chunks_are_clean(directory.file())) << point;
        }
    }
    expect_all_chunks_come_back(directory.file());
}

}  // namespace
}  // namespace aep
