// Thousands of short threads, joined and detached, leave bounded memory: heaps of ended threads are
// adopted, also when blocks of theirs stay live for a while. Run by CTest through run.sh in both
// modes. Crash rule: check.hpp.
#include <malloc.h>
#include <pthread.h>
#include <sched.h>

#include "tests/conformance/check.hpp"

static std::atomic<int> s_ended;
static std::atomic<void*> s_left[256];

static void* short_life(void* argument) {
    const auto me = reinterpret_cast<uintptr_t>(argument);
    void* blocks[40];
    for (size_t i = 0; i < 40; ++i) {
        const size_t size = (i * 97 + me * 13) % 5000 + 1;
        blocks[i] = malloc(size);
        REQUIRE(blocks[i] != nullptr);
        check::fill(blocks[i], size, i);
    }
    for (size_t i = 0; i < 40; ++i) {
        CHECK_PATTERN(blocks[i], (i * 97 + me * 13) % 5000 + 1, i);
        if (i == 7) {
            // This one stays until 256 threads later.
            free(s_left[me % 256].exchange(blocks[i]));
        } else {
            free(blocks[i]);
        }
    }
    s_ended.fetch_add(1);
    return nullptr;
}

static void run(int count, bool detached) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    if (detached) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    const int before = s_ended;
    for (int i = 0; i < count; i += 4) {
        pthread_t threads[4];
        for (int k = 0; k < 4; ++k) {
            while (detached && i + k + before - s_ended > 16) sched_yield();
            REQUIRE(pthread_create(&threads[k], &attributes, short_life,
                                   reinterpret_cast<void*>(static_cast<intptr_t>(i + k))) == 0);
        }
        for (const pthread_t thread : threads)
            if (!detached) REQUIRE(pthread_join(thread, nullptr) == 0);
    }
    while (s_ended < before + count) sched_yield();
    pthread_attr_destroy(&attributes);
}

int main() {
    check::begin();
    check::begin_case("joined");
    run(400, false);
    const long early = check::heap_footprint();
    run(4000, false);
    const long late = check::heap_footprint();
    CHECK(late - early < (12 << 20), "footprint %ld after 400 threads, %ld after 4400", early,
          late);
    check::begin_case("detached");
    run(400, true);
    const long early_detached = check::heap_footprint();
    run(3000, true);
    const long late_detached = check::heap_footprint();
    CHECK(late_detached - early_detached < (16 << 20),
          "footprint %ld after 400 detached threads, %ld after 3400", early_detached,
          late_detached);
    check::begin_case("many threads at once");
    static pthread_t threads[300];
    static pthread_barrier_t barrier;
    REQUIRE(pthread_barrier_init(&barrier, nullptr, 300) == 0);
    for (int round = 0; round < 3; ++round) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, 64 << 10);
        for (pthread_t& thread : threads) {
            REQUIRE(pthread_create(
                        &thread, &attributes,
                        [](void* argument) -> void* {
                            void* p = malloc(1000);
                            REQUIRE(p != nullptr);
                            check::fill(p, 1000, 4);
                            pthread_barrier_wait(&barrier);
                            CHECK_PATTERN(p, 1000, 4);
                            free(p);
                            return argument;
                        },
                        nullptr) == 0);
        }
        for (const pthread_t thread : threads) REQUIRE(pthread_join(thread, nullptr) == 0);
    }
    CHECK(check::heap_footprint() - late_detached < (64 << 20),
          "300 threads at once leave %ld bytes more", check::heap_footprint() - late_detached);
    for (auto& p : s_left) free(p);
    return check::result();
}
