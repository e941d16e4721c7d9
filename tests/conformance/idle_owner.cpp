// What others free of a thread that then does nothing is not lost. Threads allocate some 48 MiB one
// after another and stay, asleep; the main thread frees all of it each time: the footprint never
// exceeds one and a half rounds, malloc_trim leaves a fifth of one at most, and on a pool of three
// rounds no allocation fails. Also when the owner has freed a part itself, for workers that take
// turns, and for large blocks that need the room of small ones. Run by CTest through run.sh in all
// modes. Crash rule: check.hpp.
#include <malloc.h>
#include <pthread.h>

#include "tests/conformance/check.hpp"

static constexpr size_t k_round = 48u << 20;
static constexpr int k_rounds = 6;
static void* s_blocks[k_round / 64];
static size_t s_size;
static size_t s_count;
static bool s_frees_some;
static pthread_barrier_t s_made;
static pthread_barrier_t s_end;

static void make_blocks() {
    s_count = k_round / s_size;
    for (size_t i = 0; i < s_count; ++i) {
        s_blocks[i] = malloc(s_size);
        REQUIRE(s_blocks[i] != nullptr, "block %zu of %zu bytes", i, s_size);
        memset(s_blocks[i], 1, s_size);
    }
    for (size_t i = 0; s_frees_some && i < s_count; i += 4) {
        free(s_blocks[i]);
        s_blocks[i] = nullptr;
    }
}

static void* maker(void*) {
    make_blocks();
    pthread_barrier_wait(&s_made);
    pthread_barrier_wait(&s_end);
    return nullptr;
}

static void free_blocks() {
    for (size_t i = 0; i < s_count; ++i) free(s_blocks[i]);
}

static void rounds(const char* name, size_t size, bool frees_some, bool trims) {
    check::begin_case(name);
    s_size = size;
    s_frees_some = frees_some;
    malloc_trim(0);
    const long before = check::heap_footprint();
    pthread_t threads[k_rounds];
    REQUIRE(pthread_barrier_init(&s_end, nullptr, k_rounds + 1) == 0);
    long one = 0;
    for (int round = 0; round < k_rounds; ++round) {
        REQUIRE(pthread_create(&threads[round], nullptr, maker, nullptr) == 0);
        pthread_barrier_wait(&s_made);
        const long full = check::heap_footprint() - before;
        if (round == 0) one = full;
        free_blocks();
        CHECK(full <= one + one / 2, "round %d: %ld, the first %ld", round, full, one);
        if (!trims) continue;
        malloc_trim(0);
        const long trimmed = check::heap_footprint() - before;
        CHECK(trimmed <= one / 5, "round %d: %ld of %ld stay", round, trimmed, one);
    }
    // What is free in pages of idle owners serves a large block, too.
    void* large = malloc(k_round / 4);
    CHECK(large != nullptr);
    memset(large, 1, k_round / 4);
    const long with_large = check::heap_footprint() - before;
    CHECK(with_large <= one * 2, "%ld with a large block, one round is %ld", with_large, one);
    free(large);
    pthread_barrier_wait(&s_end);
    for (pthread_t t : threads) pthread_join(t, nullptr);
    pthread_barrier_destroy(&s_end);
}

/// Workers that take turns: each makes what the next one frees.
static pthread_barrier_t s_turn;
static constexpr int k_workers = 4;
static void* worker(void* number) {
    const long self = reinterpret_cast<long>(number);
    for (long turn = 0; turn < 3 * k_workers; ++turn) {
        if (turn % k_workers == self) {
            free_blocks();
            make_blocks();
        }
        pthread_barrier_wait(&s_turn);
    }
    return nullptr;
}

static void turns() {
    check::begin_case("workers that take turns");
    s_size = 1000;
    s_frees_some = false;
    malloc_trim(0);
    const long before = check::heap_footprint();
    make_blocks();
    const long one = check::heap_footprint() - before;
    REQUIRE(pthread_barrier_init(&s_turn, nullptr, k_workers) == 0);
    pthread_t threads[k_workers];
    for (long i = 0; i < k_workers; ++i)
        REQUIRE(pthread_create(&threads[i], nullptr, worker, reinterpret_cast<void*>(i)) == 0);
    for (pthread_t t : threads) pthread_join(t, nullptr);
    const long after = check::heap_footprint() - before;
    CHECK(after <= one * 5 / 2, "%ld after all turns, %ld after one", after, one);
    free_blocks();
    pthread_barrier_destroy(&s_turn);
}

int main() {
    check::begin();
    REQUIRE(pthread_barrier_init(&s_made, nullptr, 2) == 0);
    rounds("small blocks", 64, false, false);
    rounds("small blocks, trimmed", 200, false, true);
    rounds("medium blocks, trimmed", 4096, false, true);
    rounds("blocks of which the owner frees some, trimmed", 1000, true, true);
    turns();
    return check::result();
}
