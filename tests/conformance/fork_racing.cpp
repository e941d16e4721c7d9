// fork while other threads start, exit, allocate and fork themselves: no hang, no damage, in parent
// and children; the children can start threads too. Run by CTest through run.sh in both modes.
// Crash rule: check.hpp.
#include <pthread.h>
#include <sched.h>

#include "tests/conformance/population.hpp"

static check::Population<200> s_all;
static std::atomic<bool> s_stop;

static void* short_life(void* argument) {
    void* blocks[50];
    for (size_t i = 0; i < 50; ++i) {
        blocks[i] = malloc(i * i + 1);
        REQUIRE(blocks[i] != nullptr);
        check::fill(blocks[i], i * i + 1, i);
    }
    for (size_t i = 0; i < 50; ++i) {
        CHECK_PATTERN(blocks[i], i * i + 1, i);
        free(blocks[i]);
    }
    free(argument);
    return nullptr;
}

static void* thread_starter(void*) {
    while (!s_stop) {
        pthread_t threads[4];
        for (pthread_t& thread : threads)
            REQUIRE(pthread_create(&thread, nullptr, short_life, malloc(77)) == 0);
        for (const pthread_t thread : threads) REQUIRE(pthread_join(thread, nullptr) == 0);
    }
    return nullptr;
}

static void child_main(bool with_threads) {
    s_all.check();
    s_all.repaint(8);
    s_all.renew();
    if (with_threads) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, nullptr, short_life, malloc(10)) == 0);
        REQUIRE(pthread_join(thread, nullptr) == 0);
    }
    s_all.check();
    s_all.free_all();
}

static void* forker(void*) {
    for (int i = 0; i < 6; ++i) {
        CHECK_CHILD(check::run_in_child([] { child_main(false); }));
        short_life(malloc(5));
    }
    return nullptr;
}

int main() {
    check::begin();
    s_all.make(200000, 1);
    check::begin_case("fork while threads start and exit");
    pthread_t starters[2];
    for (pthread_t& thread : starters)
        REQUIRE(pthread_create(&thread, nullptr, thread_starter, nullptr) == 0);
    for (int i = 0; i < 24; ++i) CHECK_CHILD(check::run_in_child([i] { child_main(i % 3 == 0); }));
    s_stop = true;
    for (const pthread_t thread : starters) REQUIRE(pthread_join(thread, nullptr) == 0);
    check::begin_case("several threads fork at once");
    pthread_t forkers[4];
    for (pthread_t& thread : forkers)
        REQUIRE(pthread_create(&thread, nullptr, forker, nullptr) == 0);
    for (const pthread_t thread : forkers) REQUIRE(pthread_join(thread, nullptr) == 0);
    s_all.check();
    s_all.free_all();
    return check::result();
}
