// Purpose: unit tests of the allocator in shim/ on the anonymous backing: alignment, zeroing,
// realloc in place,
//          usable sizes, trim, what happens at a thread's end.
// Who calls it: ctest.
// Crash rule: each test runs in a child of its own.
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <cstring>
#include <thread>
#include <vector>

#include "shim/backing/anonymous_backing.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/driver/idle_heaps.hpp"
#include "shim/driver/scarcity.hpp"
#include "shim/driver/slow_path.hpp"
#include "shim/driver/thread.hpp"
#include "tests/unit/heap_fixture.hpp"

namespace aep {
namespace {

using namespace test;

constexpr Settings KEEPS_MEMORY{.decay_ms = 3'600'000};

bool all_bytes(const void* p, usize bytes, u8 value) {
    const u8* b = static_cast<const u8*>(p);
    return bytes == 0 || (b[0] == value && std::memcmp(b, b + 1, bytes - 1) == 0);
}

/// Sizes around every boundary between kinds of blocks.
std::vector<usize> interesting_sizes() {
    std::vector<usize> sizes = {0, 1, 15, 16, 17};
    for (usize s = 32; s <= 16 * MiB; s *= 2)
        sizes.insert(sizes.end(), {s - 1, s, s + 1, s + s / 3});
    return sizes;
}

TEST(Allocator, EveryAlignmentAndSize) {
    in_child([] {
        for (usize alignment = 1; alignment <= 16 * MiB; alignment *= 2) {
            std::vector<void*> blocks;
            for (const usize size : interesting_sizes()) {
                if (size > MiB && alignment < 64 * KiB) continue;
                void* p = allocate_aligned(alignment, size);
                ASSERT_NE(p, nullptr) << size << " at " << alignment;
                ASSERT_EQ(reinterpret_cast<uptr>(p) % alignment, 0u) << size << " at " << alignment;
                ASSERT_GE(usable_size(p), size);
                static_cast<char*>(p)[0] = 1;
                if (size != 0) static_cast<char*>(p)[size - 1] = 1;
                blocks.push_back(p);
            }
            for (void* p : blocks) deallocate(p);
        }
        expect_sound();
    });
}

TEST(Allocator, ImpossibleRequestsFailAndLoseNothing) {
    in_child([] {
        EXPECT_EQ(allocate(~usize{0}), nullptr);
        EXPECT_EQ(allocate(usize{1} << 63), nullptr);
        EXPECT_EQ(allocate(HEAP_WINDOW + 1), nullptr);
        EXPECT_EQ(allocate_aligned(HEAP_WINDOW, 1), nullptr);
        EXPECT_EQ(allocate_aligned(16, ~usize{0} - 8), nullptr);
        EXPECT_EQ(allocate_zeroed(~usize{0} - 100), nullptr);
        void* p = allocate(100);
        EXPECT_EQ(reallocate(p, ~usize{0} - 100), nullptr);
        EXPECT_EQ(usable_size(p), 112u);
        deallocate(p);
        deallocate(nullptr);
        expect_sound();
    });
}

TEST(Allocator, ZeroedMemoryIsZeroHoweverItWasUsedBefore) {
    in_child([] {
        for (int round = 0; round < 3; ++round) {
            std::vector<std::pair<void*, usize>> blocks;
            for (const usize size : interesting_sizes()) {
                if (size > 2 * MiB && size != 16 * MiB) continue;
                for (int i = 0; i < (size < 4096 ? 20 : 2); ++i) {
                    void* p = allocate_zeroed(size);
                    ASSERT_NE(p, nullptr);
                    ASSERT_TRUE(all_bytes(p, size, 0)) << size;
                    std::memset(p, 0xa5, usable_size(p));
                    blocks.emplace_back(p, size);
                }
            }
            for (const auto& [p, size] : blocks) deallocate(p);
            if (round == 1) trim();
        }
        expect_sound();
    });
}

TEST(Allocator, ZeroedMemoryIsZeroAfterARemoteFree) {
    in_child([] {
        // A page served by the direct path, exhausted, and refilled by another thread's frees.
        for (const usize size : {16u, 48u, 512u, 1024u}) {
            std::vector<void*> blocks;
            for (usize i = 0; i < 4 * SLICE_SIZE / size; ++i) {
                blocks.push_back(allocate(size));
                std::memset(blocks.back(), 0xff, size);
            }
            std::thread([&] {
                for (void* p : blocks) deallocate(p);
            }).join();
            for (usize i = 0; i < 4 * SLICE_SIZE / size; ++i) {
                void* p = allocate_zeroed(size);
                ASSERT_TRUE(all_bytes(p, size, 0)) << size;
                std::memset(p, 0xff, size);
            }
        }
        expect_sound();
    });
}

/// The thread has said that it leaves its heap alone, and has not yet done so: a handler's free finds the heap at rest. At
/// this one its page has to be filed anew.
TEST(Allocator, AFreeByAHandlerThatInterruptsTheWayInIsARemoteOne) {
    in_child([] {
        std::vector<void*> blocks;
        for (usize i = 0; i < 3 * SLICE_SIZE / 512; ++i) blocks.push_back(allocate(512));
        PageDesc* const page = page_of(reinterpret_cast<uptr>(blocks[0]));
        ASSERT_EQ(page->standing, Standing::full);
        usize freed = 0;
        while (page->until != 1) deallocate(blocks[freed++]);
        void* const p = blocks[freed];
        ASSERT_EQ(page_of(reinterpret_cast<uptr>(p)), page);
        {
            const SlowPath inside;
            use_heap(own_heap);
            deallocate(p);
        }
        EXPECT_TRUE(page_is_marked(page, index_of(reinterpret_cast<uptr>(p))));
        EXPECT_EQ(page->until, 1u);
        while (++freed < blocks.size()) deallocate(blocks[freed]);
        expect_sound();
    });
}

// ---- zeros

uptr purged_end = 0;

bool purge_noted(uptr address, usize bytes) {
    purged_end = address + bytes;
    return anonymous_purge(address, bytes);
}

TEST(Allocator, WhatIsNotPresentOfARecycledBlockIsGivenBackToBeZero) {
    in_child([] {
        static Backing noting = *anonymous_backing();
        noting.purge = purge_noted;
        process_configure(&noting, KEEPS_MEMORY);
        constexpr usize BYTES =
            32 * MiB;  // its end was never touched; it could as well be swapped out
        char* const p = static_cast<char*>(allocate(BYTES));
        std::memset(p, 1, BYTES / 2);
        deallocate(p);
        ASSERT_EQ(purged_end, 0u);
        char* const again = static_cast<char*>(allocate_zeroed(BYTES));
        ASSERT_EQ(again, p);
        EXPECT_EQ(purged_end, reinterpret_cast<uptr>(p) + BYTES);
        EXPECT_TRUE(all_bytes(p, BYTES, 0));
    });
}

// ---- handlers

TEST(Allocator, ALargeBlockThatAHandlerFreesTwiceIsRefused) {
    in_child([] {
        PageDesc* const d = page_of(reinterpret_cast<uptr>(allocate(MiB)));
        EXPECT_TRUE(defer_free(d));
        EXPECT_FALSE(defer_free(d));
    });
}

TEST(Allocator, ABlockThatOthersFreedTwiceIsReported) {
    const Output output = stderr_of([] {
        process_configure(nullptr, {.on_error = OnError::ignore});
        const uptr p = reinterpret_cast<uptr>(allocate(100));
        // Its owner frees it while another thread, which has found it live, is about to.
        std::thread([p] { push_remote(p); }).join();
        push(current_heap(), p);
        deallocate(allocate(100'000));  // takes in what others have freed
    });
    EXPECT_NE(output.text.find("freed twice"), std::string::npos) << output.text;
    EXPECT_EQ(output.status, 0);
}

bool handler_is_nested = false;

/// On a signal stack above the interrupted one, as one that a program has from malloc may be.
TEST(Allocator, AHandlerOnASignalStackIsOnTopWhereverThatLies) {
    in_child([] {
        ASSERT_NE(allocate(100), nullptr);
        constexpr usize STACK = MiB;
        char* const stacks = static_cast<char*>(
            mmap(nullptr, 2 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        ASSERT_NE(static_cast<void*>(stacks), MAP_FAILED);
        struct sigaction action {};
        action.sa_flags = SA_ONSTACK;
        action.sa_handler = [](int) {
            const SlowPath here;
            handler_is_nested = here.nested();
        };
        ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
        pthread_attr_t attributes;
        ASSERT_EQ(pthread_attr_init(&attributes), 0);
        ASSERT_EQ(pthread_attr_setstack(&attributes, stacks, STACK), 0);
        pthread_t thread;
        const auto run = [](void* signal_stack) -> void* {
            const stack_t above{.ss_sp = signal_stack, .ss_flags = 0, .ss_size = STACK};
            EXPECT_EQ(sigaltstack(&above, nullptr), 0);
            deallocate(allocate(100));
            const SlowPath interrupted;
            EXPECT_EQ(raise(SIGUSR1), 0);
            return nullptr;
        };
        ASSERT_EQ(pthread_create(&thread, &attributes, run, stacks + STACK), 0);
        ASSERT_EQ(pthread_join(thread, nullptr), 0);
        EXPECT_TRUE(handler_is_nested);
        expect_sound();
    });
}

TEST(Allocator, LargeBlocksGrowInPlace) {
    in_child([] {
        char* p = static_cast<char*>(allocate(200 * KiB));
        std::memset(p, 1, 200 * KiB);
        char* const before = p;
        for (usize size = 200 * KiB; size <= 64 * MiB; size += size / 4) {
            p = static_cast<char*>(reallocate(p, size));
            ASSERT_EQ(p, before) << "nothing is behind it, at " << size;
            p[size - 1] = 1;
        }
        ASSERT_TRUE(all_bytes(p, 200 * KiB, 1));
        p = static_cast<char*>(reallocate(p, MiB));
        EXPECT_EQ(p, before);
        EXPECT_LT(usable_size(p), 2 * MiB) << "what is not needed goes back";
        char* q = static_cast<char*>(allocate(MiB));
        EXPECT_GT(q, p);
        EXPECT_LT(q, p + 64 * MiB) << "… and is used again";
        char* moved = static_cast<char*>(reallocate(p, 64 * MiB));
        EXPECT_NE(moved, p) << "something is behind it now";
        ASSERT_TRUE(all_bytes(moved, 200 * KiB, 1));
        deallocate(moved);
        deallocate(q);
        expect_sound();
    });
}

TEST(Allocator, ReallocKeepsContentsAcrossEveryBoundary) {
    in_child([] {
        const std::vector<usize> sizes = interesting_sizes();
        u8 value = 0;
        for (const usize from : sizes) {
            for (const usize to :
                 {from / 3 + 1, from + 1, 2 * from + 1, usize{100}, usize{300 * KiB}}) {
                if (from == 0 || from > 2 * MiB) continue;
                void* p = allocate(from);
                std::memset(p, ++value, from);
                p = reallocate(p, to);
                ASSERT_NE(p, nullptr);
                ASSERT_GE(usable_size(p), to);
                ASSERT_TRUE(all_bytes(p, std::min(from, to), value)) << from << " to " << to;
                deallocate(p);
            }
        }
        expect_sound();
    });
}

TEST(Allocator, UsableSizeOfWhatIsNoBlockIsZero) {
    in_child([] {
        char* p = static_cast<char*>(allocate(1000));
        char* large = static_cast<char*>(allocate(MiB));
        EXPECT_EQ(usable_size(p), 1024u);
        EXPECT_EQ(usable_size(p + 16), 0u);
        EXPECT_EQ(usable_size(p + 1), 0u);
        EXPECT_EQ(usable_size(large), MiB);
        EXPECT_EQ(usable_size(large + SLICE_SIZE), 0u);
        EXPECT_EQ(usable_size(nullptr), 0u);
        deallocate(p);
        EXPECT_EQ(usable_size(p), 0u);
    });
}

TEST(Allocator, TrimGivesFreedMemoryBack) {
    in_child([] {
        std::vector<void*> blocks;
        for (int i = 0; i < 5000; ++i) {
            blocks.push_back(allocate(3000));
            std::memset(blocks.back(), 1, 3000);
        }
        for (void* p : blocks) deallocate(p);
        EXPECT_TRUE(trim());
        CheckReport report;
        ASSERT_TRUE(check_domain(domain(), report)) << report;
        EXPECT_EQ(report.live_blocks, 0u);
        for (u32 c = 0; c < domain().arena.chunk_limit(); ++c)
            EXPECT_EQ(chunk_desc(ChunkIndex{c})->dirty, 0u);
        EXPECT_GE(domain().purged_bytes.load(), 5000u * 3000);
        EXPECT_FALSE(trim()) << "nothing was left";
    });
}

TEST(Allocator, TrimGivesBackWhatThreadsWithoutAHeapHaveFreed) {
    in_child([] {
        std::thread([] {
            deallocate(allocate(100));
            thread_end();
            deallocate(allocate(100));  // from the heap of such threads
            trim();
        }).join();
        CheckReport report;
        ASSERT_TRUE(check_domain(domain(), report)) << report;
        EXPECT_EQ(report.live_blocks, 0u);
        EXPECT_EQ(report.pages, 0u);
    });
}

TEST(Allocator, ThreadsComeAndGo) {
    in_child([] {
        std::vector<void*> kept;
        for (int i = 0; i < 200; ++i) {
            std::thread([&] {
                void* mine[50];
                for (void*& p : mine) p = allocate(700);
                kept.push_back(mine[7]);
                for (void* p : mine)
                    if (p != mine[7]) deallocate(p);
            }).join();
        }
        EXPECT_LE(domain().heaps_used, 2u) << "a new thread continues an abandoned heap";
        CheckReport report;
        ASSERT_TRUE(check_domain(domain(), report)) << report;
        EXPECT_EQ(report.live_blocks, 200u);
        for (void* p : kept) deallocate(p);
        expect_sound();
    });
}

TEST(Allocator, AThreadsLastFreesAndMallocsWork) {
    in_child([] {
        std::thread([] {
            void* before = allocate(100);
            thread_end();
            void* after = allocate(100);  // from the heap of threads without one
            void* large = allocate(MiB);
            ASSERT_NE(after, nullptr);
            EXPECT_EQ(current_heap(), nullptr);
            deallocate(before);
            deallocate(after);
            deallocate(large);
            for (int i = 0; i < 5000; ++i) deallocate(allocate_zeroed(static_cast<usize>(i) * 40));
        }).join();
        expect_sound();
    });
}

// ---- when memory is scarce

TEST(Allocator, AThreadBorrowsAnewAfterItHasTakenAPage) {
    in_child([] {
        ASSERT_NE(allocate(100), nullptr);
        const u32 c = class_of(100);
        const auto borrow_a_page = [c] {
            for (usize bytes = 0; bytes < SLICE_SIZE; bytes += class_size(c)) note_borrowed(c);
        };
        note_scarcity(true);
        note_page_taken();
        EXPECT_FALSE(may_take_page(current_heap(), c));
        borrow_a_page();
        EXPECT_TRUE(may_take_page(current_heap(), c));
        note_page_taken();
        EXPECT_FALSE(may_take_page(current_heap(), c)) << "it has borrowed nothing since then";
    });
}

TEST(Allocator, TheSharedHeapTakesAPageForWhoMayNot) {
    in_child([] {
        ASSERT_NE(allocate(100), nullptr);
        const u32 c = class_of(100);
        const ProcessLockScope scope(shared_heap_lock);
        Heap* const shared = shared_heap();
        note_page_taken();
        EXPECT_TRUE(may_take_page(current_heap(), c));
        EXPECT_FALSE(may_take_page(shared, c)) << "there was no memory, rather";
        note_scarcity(true);
        EXPECT_FALSE(may_take_page(current_heap(), c));
        EXPECT_TRUE(may_take_page(shared, c));
    });
}

// ---- the heaps of others

/// Frees `blocks` in another thread.
void free_elsewhere(const std::vector<void*>& blocks) {
    std::thread([&] {
        for (void* p : blocks) deallocate(p);
    }).join();
}

TEST(Allocator, AfterAVisitInVainTheNextCallIsPassedOver) {
    in_child([] {
        process_configure(nullptr, KEEPS_MEMORY);
        std::vector<void*> blocks;
        for (usize i = 0; i < 4 * SLICE_SIZE / 4096; ++i) blocks.push_back(allocate(4096));
        void* const kept = blocks.front();
        blocks.erase(blocks.begin());
        free_elsewhere({blocks.begin(), blocks.begin() + SLICE_SIZE / 4096 - 1});
        ASSERT_TRUE(pages_wait());
        EXPECT_FALSE(take_back_if_worth(now_ms())) << "a block of the page lives";
        free_elsewhere({kept});
        EXPECT_FALSE(take_back_if_worth(now_ms())) << "passed over";
        EXPECT_TRUE(take_back_if_worth(now_ms()));
        expect_sound();
    });
}

TEST(Allocator, WhatIsSentLiesInNoMemoryThatAForkHasMadePrivate) {
    in_child([] {
        ASSERT_NE(allocate(100), nullptr);
        const ProcessLockScope scope(shared_heap_lock);
        Heap* const before = sending_heap();
        ASSERT_NE(before, nullptr);
        ASSERT_NE(pop(before, class_of(100)), 0u);
        EXPECT_EQ(sending_heap(), before);
        ++pool.freezes;
        Heap* const after = sending_heap();
        EXPECT_NE(after, before);
        EXPECT_EQ(after->page_count, 0u);
        EXPECT_EQ(before->state.load(), HeapState::abandoned);
    });
}

}  // namespace
}  // namespace aep
