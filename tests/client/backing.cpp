// Purpose: where a joined process's chunks come from and go to, what it leaves when something fails, and what a fork makes of it.
// Who calls it: CTest (client_backing).
// Crash rule: fixture.hpp.
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <fstream>

#include "shim/driver/forking.hpp"
#include "shim/driver/process.hpp"
#include "shim/sharing/sharing.hpp"
#include "shim/sys/syscall.hpp"
#include "tests/client/fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep::test {
namespace {

constexpr unsigned POPULATE_WRITE = 23;  // MADV_POPULATE_WRITE, which older headers lack

u64 held() { return client_at(this_client.index).chunks.load(); }

/// A chunk of its own, beside those of the heap.
u32 take_chunk() {
    const ChunkRun run = backing().provide(1, 1, NO_CHUNK);
    EXPECT_TRUE(run);
    return raw(run.first);
}
bool give_chunk(u32 chunk) { return backing().release(ChunkIndex{chunk}, 1); }

bool is_present(uptr address) {
    u8 page = 0;
    EXPECT_EQ(sys::mincore(address & ~(OS_PAGE_SIZE - 1), OS_PAGE_SIZE, &page), 0);
    return (page & 1) != 0;
}

/// Mappings of this process that say `words`, of files of the host's.
u32 mappings(const Host& host, const char* words = "") {
    std::ifstream maps("/proc/self/maps");
    u32 count = 0;
    for (std::string line; std::getline(maps, line);)
        count +=
            line.find(host.path()) != std::string::npos && line.find(words) != std::string::npos;
    return count;
}

TEST(Chunks, WhatIsGivenBackIsNobodysAndHasNoBitmaps) {
    const Host host;
    host.in_client([] {
        deallocate(allocate(64));
        const u64 before = held();
        const u32 chunk = take_chunk();
        EXPECT_EQ(pool_here().state(chunk), ChunkView::ours);
        const SliceIndex slice = first_slice(ChunkIndex{chunk});
        EXPECT_NE(backing().commit_page(slice), 0u);
        const uptr bitmaps = reinterpret_cast<uptr>(block_bits_of(slice));
        EXPECT_TRUE(is_present(bitmaps));
        EXPECT_TRUE(give_chunk(chunk));
        EXPECT_EQ(pool_here().state(chunk), ChunkView::other);
        EXPECT_EQ(held(), before);
        EXPECT_FALSE(is_present(bitmaps));
    });
}

TEST(Chunks, OneThatCannotBeOpenedGoesBack) {
    const Host host;
    host.in_client([] {
        deallocate(allocate(64));
        const u64 before = held();
        refuse_call(__NR_mprotect, 2, PROT_READ | PROT_WRITE, ENOMEM);
        for (int i = 0; i < 3; ++i) EXPECT_FALSE(backing().provide(1, 1, NO_CHUNK));
        EXPECT_EQ(held(), before);
    });
}

TEST(Chunks, OneThatCannotBeCleanedStays) {
    const Host host;
    host.in_client([] {
        deallocate(allocate(64));
        const u32 chunk = take_chunk();
        refuse_call(__NR_madvise, 2, MADV_REMOVE, EIO);
        EXPECT_FALSE(give_chunk(chunk));
        EXPECT_EQ(chunk_owner(chunk).load(), this_client.index);
    });
}

TEST(Chunks, BitmapsForWhichThereIsNoMemoryAreNotWritten) {
    const Host host;
    host.in_client([] {
        deallocate(allocate(64));
        const u32 chunk = take_chunk();
        refuse_call(__NR_madvise, 2, POPULATE_WRITE, ENOMEM);
        EXPECT_EQ(backing().commit_page(first_slice(ChunkIndex{chunk})), 0u);
    });
}

TEST(Chunks, ALimitIsSaidOnce) {
    const Host host({"client-limit=16M"});
    const Output out = stderr_of([&] {
        host.configure();
        deallocate(allocate(64));
        for (int i = 0; i < 3; ++i) EXPECT_EQ(allocate(20 * MiB), nullptr);
    });
    EXPECT_EQ(out.status, 0);
    EXPECT_NE(out.text.find("may hold no more than it does"), std::string::npos) << out.text;
    EXPECT_EQ(std::count(out.text.begin(), out.text.end(), '\n'), 1) << out.text;
}

// ---- forks

TEST(Chunks, AForkMakesTheHeapPrivate) {
    const Host host;
    host.in_client([] {
        void* p = allocate(64);
        const u32 chunk = raw(chunk_of(slice_at(reinterpret_cast<uptr>(p))));
        EXPECT_NE(chunk_desc(ChunkIndex{chunk})->bitmaps, 0u);
        ASSERT_EQ(fork_prepare(), 0);
        EXPECT_FALSE(heap_in_context.load());
        EXPECT_EQ(client_at(this_client.index).private_heap.load(), 1u);
        EXPECT_EQ(chunk_desc(ChunkIndex{chunk})->bitmaps, 0u)
            << "they have to be made present anew";
        const pid_t child = start_child([] { fork_child(); });
        fork_parent();
        EXPECT_EQ(wait_for(child), 0);
        EXPECT_EQ(chunk_owner(chunk).load(), this_client.index);
    });
}

TEST(Chunks, OneThatAChildMayUseStaysButForItsCopies) {
    const Host host;
    host.in_client([] {
        deallocate(allocate(64));
        const u32 chunk = take_chunk();
        const uptr address = chunk_address(ChunkIndex{chunk});
        ASSERT_TRUE(backing().commit(address, SLICE_SIZE));
        char& byte = *bytes_at(ChunkIndex{chunk});
        byte = 1;
        ASSERT_EQ(fork_prepare(), 0);
        const pid_t child = start_child([] { fork_child(); });
        fork_parent();
        EXPECT_EQ(wait_for(child), 0);
        byte = 2;
        EXPECT_FALSE(give_chunk(chunk));
        EXPECT_EQ(chunk_owner(chunk).load(), this_client.index);
        EXPECT_EQ(byte, 1) << "what was private is given back";
    });
}

/// A child that had what keeps its parent's locks would keep its dead parent alive.
TEST(Chunks, NoChildHasWhatKeepsTheLocks) {
    const Host host;
    host.in_client([] {
        deallocate(allocate(64));
        char begin[32];
        std::snprintf(begin, sizeof begin, "%lx-", pool_here().token);
        std::ifstream maps("/proc/self/smaps");
        std::string line;
        while (std::getline(maps, line) && line.rfind(begin, 0) != 0) continue;
        ASSERT_TRUE(maps) << "not mapped";
        while (std::getline(maps, line) && line.rfind("VmFlags:", 0) != 0) continue;
        EXPECT_NE(line.find(" dc"), std::string::npos) << line;
    });
}

/// A daemon of another context answers at the socket of the parent's.
TEST(Chunks, AChildJoinsNoContextOfAnotherPool) {
    const Host host, other;
    host.in_client([&] {
        ASSERT_EQ(share_attach("parent"), 0);
        ASSERT_EQ(fork_prepare(), 0);
        const pid_t child = start_child([&] {
            fork_child();
            ASSERT_EQ(rename(other.socket().c_str(), host.socket().c_str()), 0);
            EXPECT_EQ(share_attach("child"), -ENOTCONN);
            EXPECT_FALSE(this_client.attached);
        });
        fork_parent();
        EXPECT_EQ(wait_for(child), 0);
    });
}

// ---- what fails

TEST(Chunks, AJoinThatFailsLeavesNothingMapped) {
    const Host host({"slots=1"});
    const Signal joined, end;
    const pid_t first = start_child([&] {
        host.configure();
        deallocate(allocate(64));
        EXPECT_TRUE(this_client.attached);
        joined.say();
        end.wait();
    });
    joined.wait();
    const Output out = stderr_of([&] {
        host.configure();
        deallocate(allocate(64));
        EXPECT_FALSE(this_client.attached);
        EXPECT_EQ(mappings(host), 0u);
    });
    EXPECT_EQ(out.status, 0);
    EXPECT_NE(out.text.find("a slot: "), std::string::npos) << out.text;
    end.say();
    EXPECT_EQ(wait_for(first), 0);
}

/// A daemon that lets anybody in.
TEST(Chunks, AContextOfAnotherImageIsNotJoined) {
    const Host host({"image-hash=unasked"});
    const Output out = stderr_of([&] {
        host.configure();
        deallocate(allocate(64));
        EXPECT_FALSE(this_client.attached);
    });
    EXPECT_EQ(out.status, 0);
    EXPECT_NE(out.text.find("the daemon's answer: "), std::string::npos) << out.text;
}

TEST(Chunks, AMailboxForWhichThereIsNoMemoryIsAnError) {
    const Host host;
    host.in_client([] {
        deallocate(allocate(64));
        refuse_call(__NR_madvise, 2, POPULATE_WRITE, ENOMEM);
        EXPECT_EQ(share_attach("one"), -ENOMEM);
    });
}

}  // namespace
}  // namespace aep::test
