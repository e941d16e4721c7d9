// malloc before main: in preinit_array (before any constructor), constructors of all
// priorities, static C++ objects, the blocks live on into main and are freed
// in destructors. Run by CTest through run.sh in both modes. Crash rule: check.hpp.
#include <pthread.h>

#include <string>
#include <vector>

#include "tests/conformance/population.hpp"

static void* s_preinit;
static void* s_init;
static void* s_first;
static void* s_last;
static int s_seen;

static void preinit(int, char**, char**) {
    s_preinit = malloc(1000);
    if (s_preinit != nullptr) check::fill(s_preinit, 1000, 1);
    s_preinit = realloc(s_preinit, 100000);
    ++s_seen;
}
[[gnu::constructor(200)]] static void init(int, char** arguments, char**) {
    s_init = calloc(1, 5000);
    if (s_init != nullptr) strcpy(static_cast<char*>(s_init), arguments[0]);
    ++s_seen;
}
[[gnu::section(".preinit_array"), gnu::used]] static void (*const k_preinit)(int, char**,
                                                                             char**) = preinit;

[[gnu::constructor(101)]] static void first() {
    s_first = aligned_alloc(4096, 8192);
    // A thread before main, with its own heap.
    pthread_t thread;
    if (pthread_create(
            &thread, nullptr,
            [](void*) -> void* {
                void* p = malloc(300);
                free(p);
                return p;
            },
            nullptr) == 0)
        pthread_join(thread, nullptr);
    ++s_seen;
}
[[gnu::constructor(65535)]] static void last() {
    s_last = malloc(6u << 20);
    ++s_seen;
}
static std::vector<std::string> s_words(1000, std::string(100, 'x'));

[[gnu::destructor(101)]] static void very_late() {
    free(s_first);
    void* p = malloc(2000);
    if (p == nullptr) _exit(9);
    check::fill(p, 2000, 1);
    free(p);
}

int main() {
    check::begin();
    check::begin_case("blocks from before main");
    REQUIRE(s_preinit != nullptr && s_init != nullptr && s_first != nullptr && s_last != nullptr);
    CHECK(s_seen == 4, "%d of 4 early functions ran", s_seen);
    CHECK_PATTERN(s_preinit, 1000, 1);
    CHECK(strstr(static_cast<char*>(s_init), "load_early") != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(s_first) % 4096 == 0);
    for (const std::string& word : s_words) CHECK(word == std::string(100, 'x'));
    free(s_preinit);
    free(s_init);
    free(s_last);
    return check::result();
}
