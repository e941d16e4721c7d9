// Purpose: unit tests of taking and giving back the pool's chunks: claims, commit, purge,
//          release, and what the dead held.
// Who calls it: ctest.
// Crash rule: pools live in a directory that each test removes; killed children are the test's
//             own.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cstring>
#include <set>

#include "dsm-core/pool/tables.hpp"
#include "shim/backing/node_lock.hpp"
#include "tests/unit/pool_fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep {
namespace {

using namespace test;

constexpr usize SMALL = 32 * MiB;
constexpr u32 SMALL_CHUNKS = 7;

bool is_zero(const char* from, usize bytes) {
    return from[0] == 0 && std::memcmp(from, from + 1, bytes - 1) == 0;
}

/// A child that takes `count` chunks one by one, says so, and waits to be killed.
pid_t start_holder(const std::string& path, u32 count, const Signal& ready) {
    return start_child([&path, count, &ready] {
        const Backing* b = attach(path, SMALL);
        for (u32 i = 0; i < count; ++i) {
            const ChunkRun run = b->provide(1, 1, NO_CHUNK);
            ASSERT_TRUE(run);
            ASSERT_TRUE(b->commit(chunk_address(run.first), CHUNK_SIZE));
            std::memset(bytes_at(run.first), 0xaa, CHUNK_SIZE);
        }
        ready.say();
        for (;;) pause();
    });
}

void kill_child(pid_t child) {
    kill(child, SIGKILL);
    EXPECT_EQ(wait_for(child), SIGKILL);
}

void kill_when_ready(pid_t child, const Signal& ready) {
    ready.wait();
    kill_child(child);
}

/// For want of metadata, or of a mapping: it is not lost.
TEST(PoolClaim, AChunkThatCannotBeOpenedIsFreeAgain) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        refuse_call(__NR_mprotect, 2, PROT_READ | PROT_WRITE, ENOMEM);
        for (u32 i = 0; i < 2 * SMALL_CHUNKS; ++i) EXPECT_FALSE(b->provide(1, 1, NO_CHUNK));
        EXPECT_FALSE(b->provide(2, 1, NO_CHUNK));
        EXPECT_FALSE(b->provide(1, 1, ChunkIndex{3}));
        EXPECT_EQ(check(directory.file()).free_chunks, SMALL_CHUNKS);
    });
}

/// Whoever took it would find what lay in it.
TEST(PoolClaim, AChunkThatCannotBeCleanedStays) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        const ChunkRun run = b->provide(1, 1, NO_CHUNK);
        ASSERT_TRUE(run && b->commit(chunk_address(run.first), CHUNK_SIZE));
        std::memset(bytes_at(run.first), 7, CHUNK_SIZE);
        refuse_call(__NR_madvise, 2, MADV_REMOVE, EIO);
        EXPECT_FALSE(b->release(run.first, 1));
        EXPECT_EQ(check(directory.file()).owned_chunks, 1u);
        EXPECT_EQ(bytes_at(run.first)[CHUNK_SIZE - 1], 7);
    });
}

/// What was given back before the part that could not be is there again: the range counts as usable.
TEST(PoolClaim, WhatIsPurgedByHalfIsPresentAgain) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        const uptr at = chunk_address(b->provide(1, 1, NO_CHUNK).first);
        constexpr usize BYTES = 2 * SLICE_SIZE;
        ASSERT_TRUE(b->commit(at, BYTES));
        const usize before = allocated(directory.file());
        // Sanitizers answer mlock() without locking anything.
        ASSERT_EQ(syscall(SYS_mlock, at + SLICE_SIZE, OS_PAGE_SIZE), 0);
        EXPECT_FALSE(b->purge(at, BYTES));
        EXPECT_EQ(allocated(directory.file()), before);
    });
}

TEST(PoolClaim, GivesEachChunkOnceAndZero) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        EXPECT_EQ(b->max_chunks, MAX_CHUNKS);
        std::set<u32> seen;
        for (u32 i = 0; i < SMALL_CHUNKS; ++i) {
            const ChunkRun run = b->provide(1, 1, NO_CHUNK);
            ASSERT_TRUE(run);
            EXPECT_TRUE(run.zero);
            EXPECT_TRUE(seen.insert(raw(run.first)).second);
            ASSERT_TRUE(b->commit(chunk_address(run.first), 2 * SLICE_SIZE));
            EXPECT_TRUE(is_zero(bytes_at(run.first), 2 * SLICE_SIZE));
            std::memset(bytes_at(run.first), 1, 2 * SLICE_SIZE);
        }
        EXPECT_FALSE(b->provide(1, 1, NO_CHUNK)) << "full";
        const PoolReport report = check(directory.file());
        EXPECT_EQ(report.owned_chunks, SMALL_CHUNKS);
        EXPECT_EQ(report.live_nodes, 1u);
    });
}

TEST(PoolClaim, RunsAlignAndPlaces) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        EXPECT_FALSE(b->provide(SMALL_CHUNKS + 1, 1, NO_CHUNK));
        EXPECT_EQ(raw(b->provide(1, 1, NO_CHUNK).first), 0u);
        EXPECT_EQ(raw(b->provide(2, 2, NO_CHUNK).first), 2u);
        EXPECT_TRUE(b->provide(1, 1, ChunkIndex{4})) << "growth in place";
        EXPECT_FALSE(b->provide(1, 1, ChunkIndex{4})) << "taken";
        EXPECT_FALSE(b->provide(1, 2, ChunkIndex{5})) << "not aligned";
        EXPECT_FALSE(b->provide(3, 1, ChunkIndex{5})) << "beyond the pool's end";
        EXPECT_FALSE(b->provide(3, 1, NO_CHUNK)) << "only 1, 5 and 6 are free";
        EXPECT_EQ(check(directory.file()).owned_chunks, 4u) << "nothing is kept of a failed run";
        EXPECT_EQ(raw(b->provide(2, 1, NO_CHUNK).first), 5u);
        EXPECT_EQ(raw(b->provide(1, 1, NO_CHUNK).first), 1u);
    });
}

TEST(PoolClaim, MapsMetadataOfAllChunksUpToTheProvided) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), GiB);
        ASSERT_TRUE(b->provide(1, 1, ChunkIndex{200}));
        for (const MetaArray& array : SLICE_ARRAYS) {
            char* last =
                reinterpret_cast<char*>(array.base + array.stride * (201 * SLICES_PER_CHUNK - 1));
            EXPECT_TRUE(is_zero(last, array.stride));
            last[0] = 1;
        }
        EXPECT_EQ(*reinterpret_cast<char*>(DESCS.base), 0) << "a descriptor of others' chunks";
    });
}

TEST(PoolClaim, OnlyOwnChunksCanBeReached) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        ASSERT_TRUE(b->provide(3, 1, NO_CHUNK));
        EXPECT_TRUE(b->release(ChunkIndex{1}, 1));
        EXPECT_TRUE(b->commit(chunk_address(ChunkIndex{0}), CHUNK_SIZE));
        std::memset(bytes_at(ChunkIndex{0}), 1, CHUNK_SIZE);
        for (const u32 other : {1u, 3u}) {
            const pid_t writer = fork();
            if (writer == 0) {
                const rlimit no_core{0, 0};
                setrlimit(RLIMIT_CORE, &no_core);
                signal(SIGSEGV, SIG_DFL);
                *static_cast<volatile char*>(bytes_at(ChunkIndex{other})) = 1;
                _exit(0);
            }
            EXPECT_EQ(wait_for(writer), SIGSEGV) << other;
        }
    });
}

TEST(PoolClaim, ReleasedChunksAreCleanForOthers) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        ASSERT_TRUE(b->release(b->provide(2, 1, NO_CHUNK).first, 2));
        const usize empty = allocated(directory.file());
        const ChunkRun run = b->provide(2, 1, NO_CHUNK);
        ASSERT_TRUE(b->commit(chunk_address(run.first), 2 * CHUNK_SIZE));
        std::memset(bytes_at(run.first), 1, 2 * CHUNK_SIZE);
        EXPECT_GE(allocated(directory.file()), empty + 2 * CHUNK_SIZE);
        EXPECT_TRUE(b->release(run.first, 2));
        EXPECT_EQ(allocated(directory.file()), empty);
        EXPECT_EQ(check(directory.file()).owned_chunks, 0u);
        const MappedFile file(directory.file());
        EXPECT_EQ(first_dirty_byte(file.data(), file.bytes()), 0u);
    });
}

TEST(PoolClaim, ReleasedChunksGoToOthersWhileTheReleaserLives) {
    const Directory directory;
    const Signal taken, released;
    const pid_t releaser = start_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        const ChunkRun run = b->provide(SMALL_CHUNKS, 1, NO_CHUNK);
        ASSERT_TRUE(run);
        EXPECT_TRUE(b->release(ChunkIndex{2}, 3));
        taken.say();
        released.wait();
    });
    taken.wait();
    in_child([&] {
        const ChunkRun run = attach(directory.file())->provide(3, 1, NO_CHUNK);
        EXPECT_EQ(raw(run.first), 2u);
    });
    released.say();
    EXPECT_EQ(wait_for(releaser), 0);
}

TEST(PoolClaim, PurgeGivesMemoryBackAndReadsZero) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        const ChunkRun run = b->provide(1, 1, NO_CHUNK);
        const uptr address = chunk_address(run.first);
        ASSERT_TRUE(b->commit(address, CHUNK_SIZE));
        std::memset(bytes_at(run.first), 1, CHUNK_SIZE);
        const usize full = allocated(directory.file());
        EXPECT_TRUE(b->purge(address + SLICE_SIZE, 4 * SLICE_SIZE));
        EXPECT_EQ(allocated(directory.file()), full - 4 * SLICE_SIZE);
        EXPECT_EQ(bytes_at(run.first)[SLICE_SIZE - 1], 1);
        EXPECT_EQ(bytes_at(run.first)[5 * SLICE_SIZE], 1);
        ASSERT_TRUE(b->commit(address + SLICE_SIZE, 4 * SLICE_SIZE));
        EXPECT_TRUE(is_zero(bytes_at(run.first) + SLICE_SIZE, 4 * SLICE_SIZE));
    });
}

TEST(PoolClaim, TwoProcessesShareWithoutOverlap) {
    const Directory directory;
    const Signal ready;
    const pid_t holder = start_holder(directory.file(), 3, ready);
    ready.wait();
    in_child([&] {
        EXPECT_EQ(take_all(attach(directory.file())), SMALL_CHUNKS - 3);
        const PoolReport report = check(directory.file());
        EXPECT_EQ(report.live_nodes, 2u);
        EXPECT_EQ(report.owned_chunks, SMALL_CHUNKS);
    });
    kill_child(holder);
}

TEST(PoolReclaim, TheDeadGiveEverythingBack) {
    const Directory directory;
    const Signal ready;
    kill_child([&] {
        const pid_t holder = start_holder(directory.file(), SMALL_CHUNKS, ready);
        ready.wait();
        return holder;
    }());
    EXPECT_EQ(check(directory.file()).owned_chunks, SMALL_CHUNKS) << "nobody needed them so far";
    in_child([&] {
        const Backing* b = attach(directory.file());
        for (u32 i = 0; i < SMALL_CHUNKS; ++i) {
            const ChunkRun run = b->provide(1, 1, NO_CHUNK);
            ASSERT_TRUE(run);
            ASSERT_TRUE(b->commit(chunk_address(run.first), CHUNK_SIZE));
            EXPECT_TRUE(is_zero(bytes_at(run.first), CHUNK_SIZE));
        }
    });
}

TEST(PoolReclaim, HugeRunsComeBackToo) {
    const Directory directory;
    in_child(
        [&] { EXPECT_TRUE(attach(directory.file(), SMALL)->provide(SMALL_CHUNKS, 1, NO_CHUNK)); });
    in_child([&] { EXPECT_TRUE(attach(directory.file())->provide(SMALL_CHUNKS, 1, NO_CHUNK)); });
}

TEST(PoolReclaim, ANewProcessSweepsUpAfterTheDead) {
    const Directory directory;
    for (int i = 0; i < 3; ++i)
        in_child([&] { EXPECT_TRUE(attach(directory.file(), SMALL)->provide(1, 1, NO_CHUNK)); });
    const PoolReport report = check(directory.file());
    EXPECT_EQ(report.owned_chunks, 1u) << "each took back what the one before held";
    EXPECT_EQ(report.live_nodes, 1u);
}

/// A generation each, so that nobody's chunks are taken for those of a predecessor.
TEST(PoolReclaim, WhoeverHasAnEntryHasAGenerationOfIt) {
    const Directory directory;
    std::set<u64> words;
    constexpr u32 MANY = 6;
    for (u32 i = 0; i < MANY; ++i) {
        in_child([&] { EXPECT_TRUE(attach(directory.file(), SMALL)->provide(1, 1, NO_CHUNK)); });
        const MappedFile file(directory.file());
        for (u32 chunk = 0; chunk < SMALL_CHUNKS; ++chunk)
            if (file.tables().chunk(chunk).bits != FREE_CHUNK.bits)
                words.insert(file.tables().chunk(chunk).bits);
    }
    EXPECT_EQ(words.size(), MANY);
}

/// Who has the lock is about to be that node, or to take back what it held.
TEST(PoolReclaim, AnEntryThatSomebodyHasLockedIsNotTaken) {
    const Directory directory;
    in_child([&] { attach(directory.file(), SMALL); });
    const int fd = open(directory.file().c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(try_node_lock(fd, 0), NodeLock::taken);
    in_child([&] { EXPECT_TRUE(attach(directory.file(), SMALL)->provide(1, 1, NO_CHUNK)); });
    const MappedFile file(directory.file());
    EXPECT_EQ(file.tables().node(0).state(), PoolNodeState::free);
    EXPECT_EQ(file.tables().node(1).state(), PoolNodeState::live);
    close(fd);
}

/// Whoever took one would find what lay in it.
TEST(PoolReclaim, ChunksThatCannotBeCleanedStayTheDeads) {
    const Directory directory;
    const Signal ready;
    kill_when_ready(start_holder(directory.file(), 3, ready), ready);
    in_child([&] {
        refuse_call(__NR_fallocate, 1, FALLOC_FL_PUNCH_HOLE, EIO);
        const Backing* b = attach(directory.file(), SMALL);
        u32 provided = 0;
        while (b->provide(1, 1, NO_CHUNK)) ++provided;
        EXPECT_EQ(provided, SMALL_CHUNKS - 3);
    });
}

/// Calls body(backing) in a child that was attached, in vain, while the holder of all chunks lived, which has been killed since.
template <class Body>
void when_the_holder_is_dead(const Directory& directory, Body body) {
    const Signal ready, attached, killed;
    const pid_t holder = start_holder(directory.file(), SMALL_CHUNKS, ready);
    ready.wait();
    const pid_t child = start_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        EXPECT_FALSE(b->provide(1, 1, NO_CHUNK)) << "the holder lives";
        attached.say();
        killed.wait();
        body(b);
    });
    attached.wait();
    kill_child(holder);
    killed.say();
    EXPECT_EQ(wait_for(child), 0);
}

TEST(PoolReclaim, LeavesNoDescriptor) {
    const Directory directory;
    when_the_holder_is_dead(directory, [&](const Backing* b) {
        const int lowest = dup(0);
        close(lowest);
        EXPECT_TRUE(b->provide(1, 1, NO_CHUNK));
        EXPECT_EQ(dup(0), lowest);
    });
}

/// As by a child that has inherited the descriptor: a lock lives as long as one of its description is open.
TEST(PoolReclaim, ADescriptorThatStaysOpenLocksNobodysEntry) {
    const Directory directory;
    when_the_holder_is_dead(directory, [&](const Backing* b) {
        refuse_call(__NR_close, 0, 0, EIO);
        EXPECT_TRUE(b->provide(1, 1, NO_CHUNK));
        const int fd = open(directory.file().c_str(), O_RDWR | O_CLOEXEC);
        EXPECT_EQ(pool_here().tables.node(0).state(), PoolNodeState::free);
        EXPECT_EQ(try_node_lock(fd, 0), NodeLock::taken);
    });
}

/// Another process is at it just now: what it takes back is waited for, and found.
TEST(PoolReclaim, WhatAnotherOneIsTakingBackIsWaitedFor) {
    const Directory directory;
    const Signal ready;
    const pid_t holder = start_holder(directory.file(), SMALL_CHUNKS, ready);
    ready.wait();
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        EXPECT_FALSE(b->provide(1, 1, NO_CHUNK)) << "nobody is at it";
        pool_here().tables.nodes[0].word.store(
            PoolNodeWord::make(PoolNodeState::reclaiming, 1).bits);
        answer_call(__NR_nanosleep, 0, 0, [](int) -> long {
            const PoolTables& t = pool_here().tables;
            t.words[SMALL_CHUNKS - 1].store(FREE_CHUNK.bits);
            return 0;
        });
        EXPECT_EQ(raw(b->provide(1, 1, NO_CHUNK).first), SMALL_CHUNKS - 1);
    });
    kill_child(holder);
}

TEST(PoolReclaim, AllNodeEntriesOfTheDeadAreUsedAgain) {
    const Directory directory;
    const std::string path = directory.file();
    in_child([&] { attach(path, SMALL); });
    const u32 entries = check(path).nodes;
    // Every entry says live, with a generation and a pid, and no lock: as after a reboot.
    {
        const Superblock s = MappedFile(path).superblock();
        const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
        for (u32 i = 0; i < entries; ++i) {
            const u64 fields[3] = {PoolNodeWord::make(PoolNodeState::live, 7).bits, 1234, 1};
            ASSERT_EQ(pwrite(fd, fields, sizeof fields,
                             static_cast<off_t>(s.nodes_offset + i * sizeof(PoolNodeEntry))),
                      static_cast<ssize_t>(sizeof fields));
        }
        const u64 word = ChunkWord::owned(entries - 1, 7).bits;
        ASSERT_EQ(pwrite(fd, &word, sizeof word, static_cast<off_t>(s.chunk_words_offset)), 8);
        close(fd);
    }
    EXPECT_EQ(check(path).live_nodes, entries);
    expect_all_chunks_come_back(path);
    EXPECT_EQ(check(path).live_nodes, 1u);
}

TEST(PoolReclaim, APidInUseAgainDoesNotKeepADeadNodeAlive) {
    const Directory directory;
    const std::string path = directory.file();
    const Signal ready;
    kill_child([&] {
        const pid_t holder = start_holder(path, SMALL_CHUNKS, ready);
        ready.wait();
        return holder;
    }());
    // The dead node's entry now names a living process: us, with our boot id. Only the lock counts.
    const u32 pid = static_cast<u32>(getpid());
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(pwrite(fd, &pid, sizeof pid, SUPERBLOCK_BYTES + offsetof(PoolNodeEntry, pid)), 4);
    close(fd);
    expect_all_chunks_come_back(path);
}

TEST(PoolReclaim, TheLivingKeepTheirsWhateverTheirEntrySays) {
    const Directory directory;
    const std::string path = directory.file();
    const Signal ready;
    const pid_t holder = start_holder(path, 3, ready);
    ready.wait();
    const u32 no_such_pid = 0x7fff'fff0;
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(pwrite(fd, &no_such_pid, 4, SUPERBLOCK_BYTES + offsetof(PoolNodeEntry, pid)), 4);
    close(fd);
    in_child([&] { EXPECT_EQ(take_all(attach(path)), SMALL_CHUNKS - 3); });
    kill_child(holder);
}

TEST(PoolReclaim, AnEntryTellsWhoItIs) {
    const Directory directory;
    in_child([&] {
        attach(directory.file(), SMALL)->provide(1, 1, NO_CHUNK);
        const MappedFile file(directory.file());
        const PoolNodeEntry& entry = file.tables().nodes[0];
        EXPECT_EQ(entry.pid, static_cast<u32>(getpid()));
        EXPECT_GT(entry.start_time, 0u);
        const u8 zeros[16] = {};
        EXPECT_NE(std::memcmp(entry.boot_id, zeros, sizeof zeros), 0);
        EXPECT_NE(entry.name[0], '\0');
    });
}

TEST(PoolReclaim, ManyProcessesKilledAtRandom) {
    const Directory directory;
    const std::string path = directory.file();
    unsigned seed = 12345;
    for (int round = 0; round < 40; ++round) {
        pid_t children[3];
        for (pid_t& child : children) {
            child = start_child([&] {
                const Backing* b = attach(path, SMALL);
                for (u32 i = 1;; ++i) {
                    const ChunkRun run = b->provide(1 + i % 2, 1, NO_CHUNK);
                    if (run && b->commit(chunk_address(run.first), SLICE_SIZE)) {
                        if (bytes_at(run.first)[0] != 0) _exit(3);
                        bytes_at(run.first)[0] = 1;
                    }
                    if (run && i % 3 != 0) b->release(run.first, run.count);
                }
            });
        }
        for (const pid_t child : children) {
            seed = seed * 1103515245 + 12345;
            const timespec time{0, static_cast<long>(seed >> 8) % 2'000'000};
            nanosleep(&time, nullptr);  // the moment of the kill is the test's input
            kill_child(child);
        }
        EXPECT_TRUE(free_chunks_are_clean(path));
        check(path);
    }
    expect_all_chunks_come_back(path);
}

}  // namespace
}  // namespace aep
