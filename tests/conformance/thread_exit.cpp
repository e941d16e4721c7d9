// Threads that end: their live blocks stay valid and others free them; frees and allocations in TLS
// destructors, of pthread keys (all iterations) and C++ thread_locals, before and after the
// allocator's own. Run by CTest through run.sh in both modes. Crash rule: check.hpp.
#include <pthread.h>
#include <sched.h>

#include <string>
#include <vector>

#include "tests/conformance/population.hpp"

using Few = check::Population<200>;

static void live_blocks() {
    check::begin_case("blocks outlive their thread");
    static Few each[20];
    for (uintptr_t round = 0; round < 20; ++round) {
        pthread_t thread;
        REQUIRE(
            pthread_create(
                &thread, nullptr,
                [](void* argument) -> void* {
                    const auto me = reinterpret_cast<uintptr_t>(argument);
                    each[me].make(200000, me);
                    if (me > 0)
                        each[me - 1]
                            .renew();  // frees and replaces blocks of the thread that ended before
                    return nullptr;
                },
                reinterpret_cast<void*>(round)) == 0);
        REQUIRE(pthread_join(thread, nullptr) == 0);
    }
    for (auto& one : each) one.check();
    for (auto& one : each) one.renew();
    for (auto& one : each) {
        one.check();
        one.free_all();
    }
}

static pthread_key_t s_first_key;
static pthread_key_t s_keys[8];
static pthread_key_t s_late_key;
static std::atomic<int> s_late_calls;
static std::atomic<int> s_calls;
static std::atomic<void*> s_kept[4096];
static std::atomic<size_t> s_kept_count;

/// Frees what the key held, allocates again and sets the key anew, so that it runs in every
/// iteration there is.
static void key_destructor(void* value) {
    s_calls.fetch_add(1);
    CHECK_PATTERN(value, 700, 3);
    free(value);
    void* small = malloc(50);
    void* large = malloc(300000);
    REQUIRE(small != nullptr && large != nullptr);
    check::fill(small, 50, 1);
    check::fill(large, 300000, 2);
    large = realloc(large, 400000);
    CHECK_PATTERN(large, 300000, 2);
    CHECK_PATTERN(small, 50, 1);
    free(large);
    free(small);
    void* next = malloc(700);
    REQUIRE(next != nullptr);
    check::fill(next, 700, 3);
    for (const pthread_key_t key : s_keys) {
        if (pthread_getspecific(key) != nullptr) continue;
        pthread_setspecific(key, next);
        return;
    }
    free(next);
}

/// Destructor of the last iteration: what it allocates is only freed by the main thread.
static void last_destructor(void* value) {
    free(value);
    void* p = malloc(128);
    REQUIRE(p != nullptr);
    check::fill(p, 128, 9);
    const size_t index = s_kept_count.fetch_add(1);
    REQUIRE(index < 4096);
    s_kept[index] = p;
    if (index % 2 == 0) pthread_setspecific(s_first_key, malloc(33));
}

/// Allocates in a thread that has not allocated before.
static void late_destructor(void*) {
    void* p = malloc(3000);
    REQUIRE(p != nullptr);
    check::fill(p, 3000, 4);
    CHECK_PATTERN(p, 3000, 4);
    free(p);
    s_late_calls.fetch_add(1);
}

static void* set_keys(void*) {
    for (const pthread_key_t key : s_keys) {
        void* value = malloc(700);
        REQUIRE(value != nullptr);
        check::fill(value, 700, 3);
        pthread_setspecific(key, value);
    }
    pthread_setspecific(s_first_key, malloc(44));
    return nullptr;
}

static void key_destructors() {
    check::begin_case("pthread key destructors");
    for (int round = 0; round < 100; ++round) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, nullptr, set_keys, nullptr) == 0);
        REQUIRE(pthread_join(thread, nullptr) == 0);
    }
    CHECK(s_calls >= 100 * 8 * 2, "%d destructor calls", s_calls.load());
    for (size_t i = 0; i < s_kept_count; ++i) {
        CHECK_PATTERN(s_kept[i].load(), 128, 9);
        free(s_kept[i]);
    }
}

struct Holder {
    std::vector<std::string> words;
    void* raw = nullptr;
    ~Holder() {
        CHECK(words.size() == 300);
        for (const std::string& word : words) CHECK(word.size() == 40 && word[39] == 'w');
        words.push_back(std::string(5000, 'z'));
        free(raw);
        raw = malloc(100);
        CHECK(raw != nullptr);
        free(raw);
    }
};
static thread_local Holder t_holder;
static thread_local std::vector<std::string> t_plain;

static void* use_thread_locals(void*) {
    for (int i = 0; i < 300; ++i) t_holder.words.push_back(std::string(40, 'w'));
    t_holder.raw = malloc(9000);
    for (int i = 0; i < 50; ++i) t_plain.push_back(std::string(static_cast<size_t>(i * 20), 'p'));
    return set_keys(nullptr);
}

static void thread_locals() {
    check::begin_case("C++ thread_local destructors");
    for (int round = 0; round < 100; ++round) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, nullptr, use_thread_locals, nullptr) == 0);
        REQUIRE(pthread_join(thread, nullptr) == 0);
    }
}

static void first_use_in_destructor() {
    check::begin_case("a thread whose first malloc is in a destructor");
    for (int round = 0; round < 50; ++round) {
        pthread_t thread;
        REQUIRE(pthread_create(
                    &thread, nullptr,
                    [](void*) -> void* {
                        pthread_setspecific(s_late_key, &s_late_key);
                        pthread_exit(nullptr);
                    },
                    nullptr) == 0);
        REQUIRE(pthread_join(thread, nullptr) == 0);
    }
    CHECK(s_late_calls == 50);
    check::begin_case("cancelled thread");
    for (int round = 0; round < 20; ++round) {
        pthread_t thread;
        static std::atomic<bool> waits;
        waits = false;
        REQUIRE(pthread_create(
                    &thread, nullptr,
                    [](void*) -> void* {
                        set_keys(nullptr);
                        void* p = malloc(1000);
                        pthread_cleanup_push(free, p);
                        waits = true;
                        for (;;) pause();
                        pthread_cleanup_pop(1);
                        return nullptr;
                    },
                    nullptr) == 0);
        while (!waits) sched_yield();
        REQUIRE(pthread_cancel(thread) == 0);
        REQUIRE(pthread_join(thread, nullptr) == 0);
    }
}

int main() {
    check::begin();
    REQUIRE(pthread_key_create(&s_first_key, last_destructor) == 0);
    REQUIRE(pthread_key_create(&s_late_key, late_destructor) == 0);
    for (pthread_key_t& key : s_keys) REQUIRE(pthread_key_create(&key, key_destructor) == 0);
    live_blocks();
    key_destructors();
    thread_locals();
    s_kept_count = 0;
    first_use_in_destructor();
    return check::result();
}
