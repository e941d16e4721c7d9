// Blocks allocated by one thread and freed, grown or changed by others, all at once: contents hold,
// growth is bounded. Run by CTest through run.sh in both modes. Crash rule: check.hpp.
#include <malloc.h>
#include <pthread.h>
#include <sched.h>

#include "tests/conformance/check.hpp"

static constexpr int k_threads = 4;
static constexpr size_t k_slots = 512;

struct Message {
    void* block;
    size_t size;
    uint64_t seed;
};
/// A ring from one thread to the next.
struct Ring {
    Message messages[k_slots];
    alignas(64) std::atomic<size_t> written{0};
    alignas(64) std::atomic<size_t> read{0};
};
static Ring s_rings[k_threads];

static size_t random_size(check::Random& random) {
    const size_t shift = random.below(100) == 0 ? random.below(20) : random.below(11);
    return random.below(size_t{1} << shift) + 1;
}

/// Each thread sends its blocks to the next one and checks and frees what the one before sends.
static void* pass_on(void* argument) {
    const auto me = reinterpret_cast<uintptr_t>(argument);
    Ring& out = s_rings[me];
    Ring& in = s_rings[(me + k_threads - 1) % k_threads];
    check::Random random(me + 1);
    constexpr size_t count = 40000;
    size_t sent = 0;
    size_t received = 0;
    while (sent < count || received < count) {
        bool idle = true;
        if (sent < count && out.written - out.read.load(std::memory_order_acquire) < k_slots) {
            Message& message = out.messages[sent % k_slots];
            message.size = random_size(random);
            message.seed = random.next();
            message.block = sent % 5 == 0 ? calloc(1, message.size) : malloc(message.size);
            REQUIRE(message.block != nullptr);
            check::fill(message.block, message.size, message.seed);
            out.written.store(++sent, std::memory_order_release);
            idle = false;
        }
        if (received < in.written.load(std::memory_order_acquire)) {
            Message message = in.messages[received % k_slots];
            CHECK_PATTERN(message.block, message.size, message.seed);
            if (received % 3 == 0) {
                message.block = realloc(message.block, message.size * 2);
                REQUIRE(message.block != nullptr);
                CHECK_PATTERN(message.block, message.size, message.seed);
            }
            free(message.block);
            in.read.store(++received, std::memory_order_release);
            idle = false;
        }
        if (idle) sched_yield();
    }
    return nullptr;
}

/// A table of blocks that all threads change: take one out, check it, free it, put a new one in.
struct Block {
    size_t size;
    uint64_t seed;
};
static std::atomic<Block*> s_table[3000];

static void* swap_blocks(void* argument) {
    check::Random random(reinterpret_cast<uintptr_t>(argument) + 77);
    for (int step = 0; step < 60000; ++step) {
        const size_t size = random_size(random);
        auto* block = static_cast<Block*>(malloc(sizeof(Block) + size));
        REQUIRE(block != nullptr);
        *block = {size, random.next()};
        check::fill(block + 1, size, block->seed);
        Block* old = s_table[random.below(3000)].exchange(block);
        if (old == nullptr) continue;
        CHECK_PATTERN(old + 1, old->size, old->seed);
        free(old);
    }
    return nullptr;
}

static void run_all(void* (*function)(void*)) {
    pthread_t threads[k_threads];
    for (uintptr_t t = 0; t < k_threads; ++t)
        REQUIRE(pthread_create(&threads[t], nullptr, function, reinterpret_cast<void*>(t)) == 0);
    for (const pthread_t thread : threads) REQUIRE(pthread_join(thread, nullptr) == 0);
}

/// One thread only allocates, another only frees: the memory has to travel back.
static void one_way() {
    check::begin_case("one allocates, another frees");
    static Ring ring;
    constexpr size_t count = 300000;
    long early = 0;
    pthread_t thread;
    REQUIRE(pthread_create(
                &thread, nullptr,
                [](void*) -> void* {
                    for (size_t i = 0; i < count;) {
                        if (i == ring.written.load(std::memory_order_acquire)) {
                            sched_yield();
                            continue;
                        }
                        free(ring.messages[i % k_slots].block);
                        ring.read.store(++i, std::memory_order_release);
                    }
                    return nullptr;
                },
                nullptr) == 0);
    for (size_t i = 0; i < count;) {
        if (i - ring.read.load(std::memory_order_acquire) == k_slots) {
            sched_yield();
            continue;
        }
        void* p = malloc(i % 2000 + 1);
        REQUIRE(p != nullptr);
        memset(p, 1, i % 2000 + 1);
        ring.messages[i % k_slots].block = p;
        ring.written.store(++i, std::memory_order_release);
        if (i == count / 10) early = check::heap_footprint();
    }
    REQUIRE(pthread_join(thread, nullptr) == 0);
    const long late = check::heap_footprint();
    CHECK(late - early < (16 << 20), "footprint %ld early, %ld late", early, late);
}

int main() {
    check::begin();
    check::begin_case("rings");
    run_all(pass_on);
    check::begin_case("shared table");
    run_all(swap_blocks);
    for (auto& slot : s_table) free(slot.exchange(nullptr));
    one_way();
    return check::result();
}
