// A fork of a process with threads: the child has only one, but the memory that the others
// allocated is its own: it can use, free and reuse all of it, with bounded growth. Run by CTest
// through run.sh in both modes. Crash rule: check.hpp.
#include <pthread.h>

#include "tests/conformance/population.hpp"

static constexpr int k_threads = 4;
static constexpr int k_blocks = 4000;
static check::Population<300> s_each[k_threads];
static void* s_many[k_threads][k_blocks];
static pthread_barrier_t s_ready;
static pthread_barrier_t s_end;

static size_t size_of(int i) { return static_cast<size_t>(i * 7 % 3000 + 1); }

static void* thread_main(void* argument) {
    const auto me = reinterpret_cast<uintptr_t>(argument);
    s_each[me].make(400000, me);
    for (int i = 0; i < k_blocks; ++i) {
        s_many[me][i] = malloc(size_of(i));
        REQUIRE(s_many[me][i] != nullptr);
        check::fill(s_many[me][i], size_of(i), me * 31);
    }
    pthread_barrier_wait(&s_ready);
    pthread_barrier_wait(&s_end);
    s_each[me].check();
    return nullptr;
}

static void check_and_free_all() {
    for (uintptr_t t = 0; t < k_threads; ++t) {
        s_each[t].check();
        for (int i = 0; i < k_blocks; ++i) {
            CHECK_PATTERN(s_many[t][i], size_of(i), t * 31);
            free(s_many[t][i]);
        }
        s_each[t].free_all();
    }
}

static void allocate_all() {
    for (uintptr_t t = 0; t < k_threads; ++t) {
        s_each[t].make(400000, t);
        for (int i = 0; i < k_blocks; ++i) {
            s_many[t][i] = malloc(size_of(i));
            REQUIRE(s_many[t][i] != nullptr);
            check::fill(s_many[t][i], size_of(i), t * 31);
        }
    }
}

/// What the child does with it all: free it, allocate as much again, several times, in one thread
/// and in several.
static void child_main() {
    check_and_free_all();
    // The first rounds settle which blocks lie where.
    for (int round = 0; round < 3; ++round) {
        allocate_all();
        check_and_free_all();
    }
    const long settled = check::heap_footprint();
    for (int round = 0; round < 6; ++round) {
        allocate_all();
        check_and_free_all();
    }
    const long again = check::heap_footprint();
    // A round allocates some 35 MB; what is kept for reuse varies with the decay's clock.
    CHECK(again - settled < (32 << 20), "footprint %ld after three rounds, %ld after nine", settled,
          again);
}

int main() {
    check::begin();
    REQUIRE(pthread_barrier_init(&s_ready, nullptr, k_threads + 1) == 0);
    REQUIRE(pthread_barrier_init(&s_end, nullptr, k_threads + 1) == 0);
    pthread_t threads[k_threads];
    for (uintptr_t t = 0; t < k_threads; ++t)
        REQUIRE(pthread_create(&threads[t], nullptr, thread_main, reinterpret_cast<void*>(t)) == 0);
    pthread_barrier_wait(&s_ready);
    check::begin_case("child frees what living threads allocated");
    CHECK_CHILD(check::run_in_child(child_main));
    check::begin_case("child starts threads of its own that free it");
    CHECK_CHILD(check::run_in_child([] {
        pthread_t own[k_threads];
        for (uintptr_t t = 0; t < k_threads; ++t)
            REQUIRE(pthread_create(
                        &own[t], nullptr,
                        [](void* argument) -> void* {
                            const auto me = reinterpret_cast<uintptr_t>(argument);
                            s_each[me].check();
                            s_each[me].renew();
                            for (void* p : s_many[me]) free(p);
                            s_each[me].check();
                            s_each[me].free_all();
                            return nullptr;
                        },
                        reinterpret_cast<void*>(t)) == 0);
        for (const pthread_t thread : own) REQUIRE(pthread_join(thread, nullptr) == 0);
        allocate_all();
        check_and_free_all();
    }));
    check::begin_case("parent after that");
    for (uintptr_t t = 0; t < k_threads; ++t) s_each[t].check();
    pthread_barrier_wait(&s_end);
    for (const pthread_t thread : threads) REQUIRE(pthread_join(thread, nullptr) == 0);
    check::begin_case("child frees what ended threads allocated");
    CHECK_CHILD(check::run_in_child(child_main));
    check::begin_case("parent frees it too");
    child_main();
    return check::result();
}
