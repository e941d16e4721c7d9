// Purpose: many threads on one domain: blocks handed from thread to thread and freed anywhere,
// threads that come and go,
//          trims and purges in between; at the end every invariant holds and nothing is left.
// Who calls it: ctest, also under ThreadSanitizer and AddressSanitizer. AEP_TEST_STRESS_ROUNDS=n
// multiplies the work. Crash rule: each test runs in a child of its own.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "dsm-core/heap/check.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/driver/idle_heaps.hpp"
#include "tests/property/hostile_backing.hpp"
#include "tests/unit/in_child.hpp"

namespace aep::test {
namespace {

#if defined(__SANITIZE_THREAD__)
constexpr int OPERATIONS = 4'000;
#else
constexpr int OPERATIONS = 15'000;
#endif

int operations() {
    const char* text = std::getenv("AEP_TEST_STRESS_ROUNDS");
    return OPERATIONS * (text == nullptr ? 1 : std::atoi(text));
}

/// Every block begins with its size and carries a byte that depends on it to its end.
struct Header {
    u32 size;
    u32 check;
};

u8 pattern(u32 size) { return static_cast<u8>(size * 37 + 11); }

/// How much of a large block is written: its begin and its end.
constexpr usize EDGE = 256;

void write_edges(char* p, u32 size, usize from) {
    const usize front = std::min<usize>(size, EDGE);
    if (from < front) std::memset(p + from, pattern(size), front - from);
    const usize back = size - std::min<usize>(size - front, EDGE);
    std::memset(p + back, pattern(size), size - back);
}

void* marked(void* memory, u32 size) {
    if (memory == nullptr) return nullptr;
    write_edges(static_cast<char*>(memory), size, sizeof(Header));
    *static_cast<Header*>(memory) = {size, ~size};
    return memory;
}

/// That the block is as whoever made it left it.
u32 verified(const void* memory) {
    const Header h = *static_cast<const Header*>(memory);
    if (h.check != ~h.size)
        ADD_FAILURE() << "a block's header changed: " << h.size << " " << ~h.check;
    const char* p = static_cast<const char*>(memory);
    const usize front = std::min<usize>(h.size, EDGE);
    const usize back = h.size - std::min<usize>(h.size - front, EDGE);
    for (usize i = sizeof(Header); i < h.size; i = i + 1 == front ? std::max(back, front) : i + 1) {
        if (static_cast<u8>(p[i]) != pattern(h.size)) {
            ADD_FAILURE() << "a block's contents changed at " << i << " of " << h.size;
            break;
        }
    }
    return h.size;
}

using Random = std::minstd_rand;

u32 some_size(Random& random) {
    const u32 kind = random() % 64;
    u32 size;
    if (kind < 40)
        size = static_cast<u32>(random() % 600);
    else if (kind < 56)
        size = static_cast<u32>(random() % 12'000);
    else if (kind < 62)
        size = static_cast<u32>(random() % 140'000);
    else
        size = static_cast<u32>(random() % 3'000'000);
    return size + static_cast<u32>(sizeof(Header));
}

/// Blocks on their way from one thread to another.
struct Exchange {
    static constexpr u32 SLOTS = 512;
    std::atomic<void*> slots[SLOTS] = {};

    void* swap(u32 at, void* block) {
        return slots[at % SLOTS].exchange(block, std::memory_order_acq_rel);
    }
    void drain() {
        for (std::atomic<void*>& slot : slots) {
            if (void* p = slot.exchange(nullptr)) {
                verified(p);
                deallocate(p);
            }
        }
    }
};

/// One thread's life: makes blocks, hands them over, frees, reallocates and trims what it gets.
void live(Exchange& exchange, u32 seed, int count, bool may_fail) {
    Random random(seed + 1);
    void* own[32] = {};
    for (int i = 0; i < count; ++i) {
        const u32 what = random() % 32;
        void*& mine = own[random() % 32];
        if (what < 14) {  // hand over, free what was there
            const u32 size = some_size(random);
            void* old = exchange.swap(static_cast<u32>(random()), marked(allocate(size), size));
            if (old != nullptr) {
                verified(old);
                deallocate(old);
            }
        } else if (what < 20) {  // keep for a while
            if (mine != nullptr) {
                verified(mine);
                deallocate(mine);
            }
            const u32 size = some_size(random);
            mine = what % 2 == 0 ? allocate(size) : allocate_zeroed(size);
            if (mine == nullptr && !may_fail) ADD_FAILURE() << "no memory for " << size;
            marked(mine, size);
        } else if (what < 26) {  // take another thread's block and change its size
            void* p = exchange.swap(static_cast<u32>(random()), nullptr);
            if (p == nullptr) continue;
            verified(p);
            const u32 size = some_size(random);
            void* q = reallocate(p, size);
            if (q == nullptr && !may_fail) ADD_FAILURE() << "no memory for " << size;
            if (void* old =
                    exchange.swap(static_cast<u32>(random()), q == nullptr ? p : marked(q, size)))
                deallocate(old);
        } else if (what < 31) {
            if (mine != nullptr) {
                verified(mine);
                if (void* old = exchange.swap(static_cast<u32>(random()), mine)) deallocate(old);
                mine = nullptr;
            }
        } else if (random() % 200 == 0) {
            trim();
        }
    }
    for (void* p : own) deallocate(p);
}

/// After all other threads have ended: everything that was freed came back, everything is as it
/// should be.
void expect_nothing_left() {
    deallocate(allocate(1));  // whoever trims needs a heap to take the abandoned ones' pages into
    trim();
    CheckReport report;
    EXPECT_TRUE(check_domain(domain(), report))
        << report.broken << "; " << report.kind << " 0x" << std::hex << report.object
        << ", found 0x" << report.found << ", expected 0x" << report.expected;
    EXPECT_EQ(report.live_blocks, 0u);
    EXPECT_EQ(report.large_objects, 0u);
    EXPECT_EQ(report.pages, 0u);
}

/// `threads` at a time, each replaced `generations` times.
void crowd(u32 threads, u32 generations, int count, bool may_fail = false) {
    static Exchange exchange;
    std::vector<std::thread> running;
    u32 seed = 0;
    for (u32 i = 0; i < threads; ++i) {
        running.emplace_back([=] { live(exchange, i, count, may_fail); });
        ++seed;
    }
    for (u32 g = 1; g < generations; ++g) {
        for (std::thread& t : running) {  // one by one: the others go on
            t.join();
            const u32 s = seed++;
            t = std::thread([=] { live(exchange, s, count, may_fail); });
        }
    }
    for (std::thread& t : running) t.join();
    exchange.drain();
    expect_nothing_left();
}

TEST(Stress, ThreadsExchangeBlocks) {
    in_child([] {
        process_configure(anonymous_backing(), {});
        crowd(8, 1, operations());
    });
}

TEST(Stress, ThreadsComeAndGo) {
    in_child([] {
        process_configure(anonymous_backing(), {.decay_ms = 5});
        crowd(6, 30, operations() / 30);
    });
}

TEST(Stress, MemoryGoesBackAtOnce) {
    in_child([] {
        process_configure(anonymous_backing(), {.decay_ms = 0});
        crowd(4, 4, operations() / 8);
    });
}

TEST(Stress, ChunksComeAndGo) {
    in_child([] {
        hostility = {.holes = 30,
                     .dirty_chunks = 60,
                     .fail_purge = 20,
                     .fail_release = 20,
                     .max_chunks_held = 1000};
        process_configure(hostile_backing(), {.decay_ms = 0});
        crowd(4, 4, operations() / 8);
        EXPECT_GT(hostile_counts.released, 0u);
    });
}

TEST(Stress, MemoryRunsOut) {
    in_child([] {
        hostility = {
            .refuse_chunks = 50, .refuse_commit = 30, .fail_purge = 20, .max_chunks_held = 4};
        process_configure(hostile_backing(), {.decay_ms = 1});
        crowd(6, 3, operations() / 6, true);
        EXPECT_GT(hostile_counts.refused, 0u);
    });
}

TEST(Stress, OneMakesAnotherFrees) {
    in_child([] {
        process_configure(anonymous_backing(), {});
        constexpr u32 RING = 256;
        static std::atomic<void*> ring[RING];
        const int count = operations() * 4;
        std::thread producer([&] {
            Random random(5);
            for (int i = 0; i < count; ++i) {
                const u32 size = static_cast<u32>(sizeof(Header) + random() % 200);
                void* p = marked(allocate(size), size);
                while (ring[static_cast<u32>(i) % RING].load(std::memory_order_acquire) != nullptr)
                    std::this_thread::yield();
                ring[static_cast<u32>(i) % RING].store(p, std::memory_order_release);
            }
        });
        for (int i = 0; i < count; ++i) {
            std::atomic<void*>& slot = ring[static_cast<u32>(i) % RING];
            void* p;
            while ((p = slot.load(std::memory_order_acquire)) == nullptr) std::this_thread::yield();
            slot.store(nullptr, std::memory_order_release);
            verified(p);
            deallocate(p);
        }
        producer.join();
        CheckReport report;
        check_domain(domain(), report);
        EXPECT_LT(report.pages, 200u) << "what was freed remotely was used again";
        expect_nothing_left();
    });
}

/// Owners that make and free all the time, or end, while others free the rest and their pages are
/// taken back under their hands.
TEST(Stress, PagesAreTakenBackUnderTheirOwnersHands) {
    in_child([] {
        process_configure(anonymous_backing(), {.decay_ms = 0});
        static Exchange exchange;
        static std::atomic<bool> stop{false};
        static std::atomic<u32> visits{0};
        deallocate(allocate(1));  // whoever visits needs a domain
        std::vector<std::thread> others;
        for (u32 i = 0; i < 2; ++i) {
            others.emplace_back([i] {
                for (u32 at = i; !stop.load(std::memory_order_relaxed); at += 7) {
                    if (void* p = exchange.swap(at, nullptr)) {
                        verified(p);
                        deallocate(p);
                    }
                    if (at % 256 == 0 && take_back_all(now_ms())) visits.fetch_add(1);
                }
            });
        }
        const auto owner = [](u32 seed, int count) {
            Random random(seed + 1);
            for (int i = 0; i < count; ++i) {
                // Few classes, whose pages come and go; of a batch the owner frees some itself.
                constexpr u32 SIZES[] = {60, 1000, 3000, 15'000};
                const u32 size = SIZES[random() % 4];
                void* batch[40];
                for (void*& p : batch) p = marked(allocate(size), size);
                for (void* p : batch) {
                    verified(p);
                    const bool mine = random() % 4 == 0;
                    deallocate(mine ? p : exchange.swap(static_cast<u32>(random()), p));
                }
            }
        };
        const int count = operations() / 10;
        std::vector<std::thread> owners;
        for (u32 i = 0; i < 3; ++i) owners.emplace_back(owner, i, count);
        for (u32 life = 0; life < 20; ++life) std::thread(owner, life + 9, count / 20).join();
        for (std::thread& t : owners) t.join();
        stop.store(true);
        for (std::thread& t : others) t.join();
        EXPECT_GT(visits.load(), 0u);
        exchange.drain();
        expect_nothing_left();
    });
}

/// Heaps change hands all the time, with remote frees on the way to them.
TEST(Stress, OwnersChangeUnderTheFreersHands) {
    in_child([] {
        process_configure(anonymous_backing(), {});
        static Exchange exchange;
        static std::atomic<bool> stop{false};
        std::vector<std::thread> freers;
        for (u32 i = 0; i < 2; ++i) {
            freers.emplace_back([i] {
                for (u32 at = i; !stop.load(std::memory_order_relaxed); at += 7) {
                    if (void* p = exchange.swap(at, nullptr)) {
                        verified(p);
                        deallocate(p);
                    } else {
                        std::this_thread::yield();
                    }
                }
            });
        }
        const int lives = operations() / 50;
        std::thread makers[2];
        for (u32 m = 0; m < 2; ++m) {
            makers[m] = std::thread([=] {
                for (int life = 0; life < lives; ++life)
                    std::thread([=] {
                        Random random(static_cast<u32>(life) * 2 + m + 1);
                        for (int i = 0; i < 60; ++i) {
                            const u32 size = static_cast<u32>(sizeof(Header) + random() % 3000);
                            void* old = exchange.swap(static_cast<u32>(random()),
                                                      marked(allocate(size), size));
                            deallocate(old);
                        }
                    }).join();
            });
        }
        for (std::thread& t : makers) t.join();
        stop.store(true);
        for (std::thread& t : freers) t.join();
        exchange.drain();
        expect_nothing_left();
    });
}

}  // namespace
}  // namespace aep::test
