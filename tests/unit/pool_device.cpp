// Purpose: tests of how a DAX device becomes a pool, on a memory file that stands for one, and of
// how
//          machines that reclaim at once keep out of each other's way.
// Who calls it: ctest. Real devices: tests/vm.
// Crash rule: none needed: the memory goes with the process.
#include "shim/backing/pool_device.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <fstream>
#include <set>
#include <thread>
#include <vector>

#include "dsm-core/era/region.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/backing/pool_clean.hpp"
#include "shim/sys/careful.hpp"
#include "tests/unit/device_memory.hpp"
#include "tests/unit/pool_fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep::test {
namespace {

constexpr usize SMALL = MIN_POOL_BYTES;
constexpr usize SUPERBLOCK_USED = offsetof(Superblock, reserved);

TEST(PoolDevice, ZerosBecomeAPoolOnce) {
    const Memory memory;
    ASSERT_TRUE(memory.create());
    ASSERT_TRUE(memory.is_pool());
    EXPECT_FALSE(era::verify_region(memory.superblock()));
    const std::vector<u8> before = memory.first_page();
    EXPECT_TRUE(memory.create(BYTES));
    EXPECT_EQ(memory.first_page(), before);
    EXPECT_TRUE(Memory().create());
}

TEST(PoolDevice, WhatHoldsDataIsRefusedAndStaysAsItIs) {
    for (const usize at : {usize{0}, offsetof(Superblock, reserved) + 9, SUPERBLOCK_BYTES,
                           usize{3} * MiB, BYTES - 1}) {
        const Memory memory;
        memory[at] = 1;
        EXPECT_FALSE(memory.create()) << at;
        EXPECT_EQ(memory[at], 1);
        memory[at] = 0;
        EXPECT_EQ(memory.first_page(), std::vector<u8>(SUPERBLOCK_BYTES)) << at;
    }
}

TEST(PoolDevice, SizeAndAlignmentAreTheDevice_s) {
    const Memory memory;
    EXPECT_FALSE(memory.create(BYTES + CHUNK_SIZE));
    EXPECT_FALSE(memory.create(CHUNK_SIZE));
    EXPECT_FALSE(create_on_device("/dev/test", memory.fd(), {BYTES, 1 * GiB}, {}));
    EXPECT_FALSE(create_on_device("/dev/test", memory.fd(), {CHUNK_SIZE, 2 * MiB}, {}));
    EXPECT_EQ(memory.first_page(), std::vector<u8>(SUPERBLOCK_BYTES));
}

TEST(PoolDevice, OneThatIsNotUsedWholeCanGrow) {
    const Memory memory;
    ASSERT_TRUE(memory.create(BYTES / 2));
    const PoolTables t = memory.tables();
    EXPECT_EQ(memory.superblock().room_bytes, BYTES);
    EXPECT_EQ(t.chunks_there(), (BYTES / 2 - memory.superblock().chunks_offset) / CHUNK_SIZE);
    EXPECT_TRUE(memory.is_pool());
    EXPECT_TRUE(memory.create());  // another machine, which asks for no size
    grow_to(t, t.chunk_count);
    EXPECT_TRUE(memory.create(BYTES / 2));  // and one that is late
    EXPECT_EQ(t.chunks_there(), t.chunk_count);
}

TEST(PoolDevice, WhatAPoolGrowsIntoIsLookedAt) {
    const Memory memory;
    EXPECT_EQ(first_used_byte(memory.fd(), BYTES / 2, BYTES, ALIGN), static_cast<long>(BYTES));
    memory[BYTES / 2 - 8] = 1;  // before it
    EXPECT_EQ(first_used_byte(memory.fd(), BYTES / 2, BYTES, ALIGN), static_cast<long>(BYTES));
    memory[BYTES - 8] = 1;
    EXPECT_EQ(first_used_byte(memory.fd(), BYTES / 2, BYTES, ALIGN), static_cast<long>(BYTES - 8));
}

TEST(PoolDevice, WhetherCachesAreCoherentMustBeSaidOfANewOne) {
    const Memory memory;
    const auto create = [&](Coherence said) {
        return create_on_device("/dev/test", memory.fd(), {BYTES, ALIGN},
                                {.terms = {.coherent = said}});
    };
    EXPECT_FALSE(create(Coherence::unsaid));
    EXPECT_EQ(memory.first_page(), std::vector<u8>(SUPERBLOCK_BYTES));
    EXPECT_TRUE(create(Coherence::no));
    EXPECT_EQ(memory.superblock().terms.coherent, Coherence::no);
    EXPECT_TRUE(create(Coherence::unsaid));  // it is one
}

/// Of a file that is used like a device: what is only found when it is touched may not be there then, and that is a signal.
TEST(PoolDevice, AFileMustHaveAllOfItsMemory) {
    const Memory memory;
    const DaxDevice whole{BYTES, OS_PAGE_SIZE, true};
    const auto create = [&] {
        return create_on_device("/dev/test", memory.fd(), whole, {.terms = COHERENT});
    };
    EXPECT_EQ(first_hole(memory.fd(), whole, 0), 0u);
    EXPECT_EQ(first_hole(memory.fd(), {BYTES, ALIGN}, 0), BYTES) << "a device has no holes";
    EXPECT_FALSE(create());
    const auto touch = [&](usize begin, usize end) {
        for (usize at = begin; at < end; at += OS_PAGE_SIZE) memory[at] = 0;
    };
    touch(0, BYTES - ALIGN);
    EXPECT_EQ(first_hole(memory.fd(), whole, 0), BYTES - ALIGN);
    EXPECT_FALSE(create());
    EXPECT_EQ(memory.first_page(), std::vector<u8>(SUPERBLOCK_BYTES));
    touch(BYTES - ALIGN, BYTES);
    EXPECT_TRUE(create());
    EXPECT_TRUE(memory.is_pool());
}

TEST(PoolDevice, ACreationThatWasCutOffAnywhereIsFinished) {
    const Memory memory(SMALL);
    ASSERT_TRUE(memory.create());
    const std::vector<u8> whole = memory.first_page();
    for (usize written = 0; written < SUPERBLOCK_BYTES;
         written += written < SUPERBLOCK_USED ? sizeof(u64) : 64 * sizeof(u64)) {
        // The uuid is there first, the magic number last; between them anything.
        const Memory cut(SMALL);
        std::memcpy(&cut[offsetof(Superblock, uuid)], &whole[offsetof(Superblock, uuid)], 8);
        if (written > sizeof(u64))
            std::memcpy(&cut[sizeof(u64)], &whole[sizeof(u64)], written - sizeof(u64));
        ASSERT_TRUE(cut.create()) << written;
        ASSERT_EQ(cut.first_page(), whole) << written;
    }
}

TEST(PoolDevice, ManyThatCreateAtOnceMakeOne) {
    for (int round = 0; round < 20; ++round) {
        const Memory memory(SMALL);
        std::atomic<int> waiting{4}, made{0};
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([&] {
                for (waiting.fetch_sub(1); waiting.load() != 0;) {
                }
                made.fetch_add(memory.create() && memory.is_pool());
            });
        }
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(made.load(), 4);
    }
}

TEST(PoolDevice, OtherCharacterDevicesAreNone) {
    struct stat st {};
    DaxDevice device;
    for (const char* const path : {"/dev/null", "/dev/shm"}) {
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        ASSERT_EQ(fstat(fd, &st), 0);
        EXPECT_FALSE(find_dax_device(fd, st, device)) << path;
        close(fd);
    }
    const Memory memory;  // a file, and not mapped past the page cache
    ASSERT_EQ(fstat(memory.fd(), &st), 0);
    EXPECT_FALSE(find_dax_device(memory.fd(), st, device));
}

// As a pool is called that came as a descriptor: of a context.
TEST(PoolDevice, WhatIsNoPathLeadsNowhere) {
    char* const pages = static_cast<char*>(mmap(nullptr, 2 * OS_PAGE_SIZE, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(pages, MAP_FAILED);
    ASSERT_EQ(mprotect(pages, OS_PAGE_SIZE, PROT_NONE), 0);
    char* const name = pages + OS_PAGE_SIZE;
    std::strcpy(name, "of context default");
    EXPECT_FALSE(is_device_path(name));
    munmap(pages, 2 * OS_PAGE_SIZE);
}

TEST(PoolDevice, CleaningWritesZeros) {
    const Memory memory;
    ASSERT_TRUE(memory.create());
    const usize at = memory.superblock().chunks_offset + 3 * CHUNK_SIZE;
    std::memset(&memory[at - 1], 0xff, CHUNK_SIZE + 2);
    EXPECT_EQ(clean_chunk(memory.file(), memory.fd(), 3), 0);
    EXPECT_EQ(memory[at - 1], 0xff);
    EXPECT_EQ(memory[at + CHUNK_SIZE], 0xff);
    for (usize i = 0; i < CHUNK_SIZE; ++i) ASSERT_EQ(memory[at + i], 0) << i;
}

/// As a process that has it mapped does before it gives it away.
TEST(PoolDevice, CleaningWhereItIsMappedWritesZeros) {
    const Memory memory;
    ASSERT_TRUE(memory.create());
    const usize at = memory.superblock().chunks_offset + 2 * CHUNK_SIZE;
    std::memset(&memory[at - 1], 0xff, 2 * CHUNK_SIZE + 2);
    EXPECT_TRUE(clean_chunks(memory.file(), reinterpret_cast<uptr>(&memory[at]), 2 * CHUNK_SIZE));
    EXPECT_EQ(memory[at - 1], 0xff);
    EXPECT_EQ(memory[at + 2 * CHUNK_SIZE], 0xff);
    for (usize i = 0; i < 2 * CHUNK_SIZE; ++i) ASSERT_EQ(memory[at + i], 0) << i;
}

// ---- memory that has failed: what is behind the end of a file that was cut gives the same signal

/// As a daemon goes on.
template <class Body>
void surviving(Body body) {
    in_child([&] {
        keep_fault_signal(SIGBUS, way_out_of);
        body();
    });
}

TEST(PoolDevice, WhatCannotBeReadOrClearedIsAnAnswer) {
    surviving([] {
        const Memory memory;
        ASSERT_TRUE(memory.create());
        const usize cut = memory.superblock().chunks_offset + 2 * CHUNK_SIZE + MiB;
        const PoolFile file = memory.file();
        const PoolTables t = memory.tables();
        memory[cut - 1] = 7;
        ASSERT_EQ(ftruncate(memory.fd(), static_cast<off_t>(cut)), 0);
        u8 bytes[16] = {};
        EXPECT_TRUE(read_pool(file, memory.fd(), bytes, 8, cut - 8));
        EXPECT_EQ(bytes[7], 7);
        EXPECT_FALSE(read_pool(file, memory.fd(), bytes, 16, cut - 8));
        EXPECT_EQ(failed_address() % OS_PAGE_SIZE, 0u);
        EXPECT_EQ(clean_chunk(file, memory.fd(), 1), 0);
        EXPECT_EQ(clean_chunk(file, memory.fd(), 2), -EFAULT);
        EXPECT_FALSE(t.chunk(2).has_failed());
        EXPECT_EQ(clean_to_give_back(file, t, memory.fd(), 2), 0);
        EXPECT_TRUE(t.chunk(2).has_failed());
        EXPECT_EQ(first_used_byte(memory.fd(), cut & ~(ALIGN - 1), BYTES, ALIGN),
                  static_cast<long>(cut));
    });
}

TEST(PoolDevice, WhatHasFailedIsNotTouchedAgain) {
    const Memory memory;
    ASSERT_TRUE(memory.create());
    u8& byte = memory[memory.superblock().chunks_offset + CHUNK_SIZE];
    byte = 7;
    mark_failed(memory.tables(), 1);
    PoolFile file = memory.file();
    EXPECT_EQ(clean_to_give_back(file, memory.tables(), memory.fd(), 1), 0);
    EXPECT_EQ(byte, 7);
    file.memory = PoolMemory::file;  // it may get other memory by that
    EXPECT_EQ(clean_to_give_back(file, memory.tables(), memory.fd(), 1), 0);
    EXPECT_EQ(byte, 0);
}

TEST(PoolDevice, OtherFaultsEndTheProcessAsEver) {
    const pid_t child = start_child([] {
        signal(SIGBUS, SIG_DFL);  // sanitizers tell of it and exit
        keep_fault_signal(SIGBUS, way_out_of);
        const Memory memory;
        ASSERT_EQ(ftruncate(memory.fd(), 0), 0);
        memory[0] = 1;
    });
    const int status = wait_for(child);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS) << status;
}

TEST(PoolDevice, NewsOfAPageThatNobodyHasTouchedIsNoReasonToEnd) {
    surviving([] {
        siginfo_t news{};
        news.si_signo = SIGBUS;
        news.si_code = BUS_MCEERR_AO;
        EXPECT_EQ(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGBUS, &news), 0);
    });
}

// ---- reclaiming between machines: node 1's entry of the pool is another machine's

class BetweenMachines : public ::testing::Test {
  protected:
    static constexpr u32 ENTRY = 1, CHUNK = 2;
    static constexpr Owner DEAD{ENTRY, 7};

    void SetUp() override {
        ASSERT_TRUE(memory.create());
        file = memory.file();
        PoolNodeEntry& entry = memory.tables().nodes[ENTRY];
        std::memset(entry.boot_id, 0xab, sizeof entry.boot_id);
        entry.era_node = 2;
        entry.era_generation = 5;
        entry.word.store(PoolNodeWord::make(PoolNodeState::live, DEAD.generation).bits);
        ASSERT_TRUE(claim_chunk(memory.tables(), DEAD, CHUNK));
        ASSERT_EQ(try_node_lock(memory.fd(), ENTRY), NodeLock::taken);  // no such lock is told here
    }
    void say_of_node(u32 node, era::NodeState state, u32 generation) const {
        memory.era_node(node).word.store(era::NodeWord::make(state, generation).bits);
    }
    long reclaim(u32 by) const {
        return reclaim_node(file, memory.tables(), memory.fd(), ENTRY, by);
    }
    PoolNodeWord word() const { return memory.tables().node(ENTRY); }

    Memory memory;
    PoolFile file;
};

TEST_F(BetweenMachines, ALivingNode_sEntryIsLeftAlone) {
    say_of_node(1, era::NodeState::live, 5);
    EXPECT_EQ(reclaim(PoolNodeWord::reclaimer(0, 1)), -EBUSY);
    say_of_node(1, era::NodeState::recovering, 5);
    EXPECT_EQ(reclaim(PoolNodeWord::reclaimer(0, 1)), -EBUSY);
    memory.tables().nodes[ENTRY].era_node = 0;  // nobody can be asked
    EXPECT_EQ(reclaim(PoolNodeWord::reclaimer(0, 1)), -EBUSY);
    EXPECT_EQ(word().bits, PoolNodeWord::make(PoolNodeState::live, DEAD.generation).bits);
}

TEST_F(BetweenMachines, ARecoveredNode_sEntryIsReclaimed) {
    say_of_node(1, era::NodeState::live, 6);  // it is back, with another entry
    EXPECT_EQ(reclaim(PoolNodeWord::reclaimer(0, 1)), 1);
    EXPECT_EQ(word().bits, PoolNodeWord::make(PoolNodeState::free, DEAD.generation).bits);
    EXPECT_EQ(memory.tables().chunk(CHUNK).bits, FREE_CHUNK.bits);
}

/// The other machine is gone with its reports: who cleans after it finds what has failed.
TEST_F(BetweenMachines, WhatHasFailedKeepsNobodyFromReclaimingTheRest) {
    surviving([&] {
        const PoolTables t = memory.tables();
        const u32 last = t.chunk_count - 1;
        ASSERT_TRUE(claim_chunk(t, DEAD, last) && claim_chunk(t, DEAD, last - 1));
        mark_failed(t, last - 1);
        ASSERT_EQ(ftruncate(memory.fd(), static_cast<off_t>(BYTES - MiB)), 0);
        say_of_node(1, era::NodeState::live, 6);
        EXPECT_GT(reclaim(PoolNodeWord::reclaimer(0, 1)), 0);
        EXPECT_EQ(word().bits, PoolNodeWord::make(PoolNodeState::free, DEAD.generation).bits);
        EXPECT_EQ(t.chunk(CHUNK).bits, FREE_CHUNK.bits);
        for (const u32 c : {last - 1, last}) EXPECT_EQ(t.chunk(c).bits, RETIRED_CHUNK.bits) << c;
    });
}

TEST_F(BetweenMachines, OnlyOneOfThemReclaimsAndADeadOneIsInherited) {
    say_of_node(2, era::NodeState::live, 9);
    memory.tables().nodes[ENTRY].word.store(PoolNodeWord::make(PoolNodeState::reclaiming,
                                                               DEAD.generation,
                                                               PoolNodeWord::reclaimer(2, 9))
                                                .bits);
    PoolReport report;
    EXPECT_TRUE(pool_check(&memory[0], BYTES, report));
    EXPECT_EQ(reclaim(PoolNodeWord::reclaimer(0, 1)), -EBUSY);
    say_of_node(2, era::NodeState::recovering, 9);
    EXPECT_EQ(reclaim(PoolNodeWord::reclaimer(0, 1)), -EBUSY);
    EXPECT_EQ(memory.tables().chunk(CHUNK).bits, ChunkWord::owned(DEAD.node, DEAD.generation).bits);
    say_of_node(2, era::NodeState::live, 10);
    EXPECT_EQ(reclaim(PoolNodeWord::reclaimer(0, 1)), 1);
    EXPECT_EQ(memory.tables().chunk(CHUNK).bits, FREE_CHUNK.bits);
}

TEST_F(BetweenMachines, OneGoesOnWithWhatItBegan) {
    say_of_node(2, era::NodeState::live, 9);
    const u32 by = PoolNodeWord::reclaimer(2, 9);
    memory.tables().nodes[ENTRY].word.store(
        PoolNodeWord::make(PoolNodeState::reclaiming, DEAD.generation, by).bits);
    EXPECT_EQ(reclaim(by), 1);
}

/// An object of node 0 in `chunk`, to which somebody refers.
void share_in(const Memory& memory, u32 chunk) {
    const era::Tables t = era::tables_in(&memory[0], shape_of(memory.superblock()));
    era::ObjectEntry& entry = t.object(0);
    entry.address.store(chunk_address(ChunkIndex{chunk}) + 64);
    entry.bytes.store(100);
    entry.serial.store(1);
    entry.count.store(era::CountWord::make(0, 1, 1).bits);
    t.node(0).store(era::NodeWord::make(era::NodeState::live, 1).bits);
}

TEST_F(BetweenMachines, AChunkInWhichOthersHoldObjectsIsKept) {
    say_of_node(1, era::NodeState::live, 6);
    ASSERT_TRUE(claim_chunk(memory.tables(), DEAD, CHUNK + 1));
    share_in(memory, CHUNK);
    EXPECT_EQ(reclaim(PoolNodeWord::reclaimer(0, 1)), 1);
    EXPECT_EQ(memory.tables().chunk(CHUNK).bits, KEPT_CHUNK.bits);
    EXPECT_EQ(memory.tables().chunk(CHUNK + 1).bits, FREE_CHUNK.bits);
}

/// Where nobody can say which chunks those are, all stay.
TEST_F(BetweenMachines, WithoutMemoryToLookNothingIsFreed) {
    say_of_node(1, era::NodeState::live, 6);
    share_in(memory, CHUNK);
    in_child([&] {
        refuse_call(__NR_mmap, 3, MAP_NORESERVE, ENOMEM);
        EXPECT_EQ(reclaim(PoolNodeWord::reclaimer(0, 1)), -ENOMEM);
    });
    EXPECT_EQ(memory.tables().chunk(CHUNK).bits, ChunkWord::owned(DEAD.node, DEAD.generation).bits);
}

/// How often the memory that stands for a device is mapped.
u32 mappings_of_devices() {
    std::ifstream maps("/proc/self/maps");
    u32 count = 0;
    for (std::string line; std::getline(maps, line);)
        count += line.find("memfd:device") != std::string::npos;
    return count;
}

TEST_F(BetweenMachines, ALookAtTheLivingLeavesNoMapping) {
    say_of_node(1, era::NodeState::live, 6);
    share_in(memory, CHUNK);
    const u32 before = mappings_of_devices();
    EXPECT_EQ(reclaim(PoolNodeWord::reclaimer(0, 1)), 0);
    EXPECT_EQ(mappings_of_devices(), before);
}

}  // namespace
}  // namespace aep::test
