// pthread_atfork handlers may allocate and free: registered in a constructor and in main, run in
// parent and child, also with a thread that allocates at the same time. Run by CTest through run.sh
// in both modes. Crash rule: check.hpp.
#include <pthread.h>

#include "tests/conformance/population.hpp"

static check::Population<200> s_all;
static check::Population<200> s_handler;
static int s_prepared;
static int s_in_parent;
static int s_in_child;
static void* s_between;

static void prepare() {
    ++s_prepared;
    s_handler.make(30000, 10);
    s_between = malloc(5000);
    REQUIRE(s_between != nullptr);
    check::fill(s_between, 5000, 20);
    free(malloc(3u << 20));
}
static void finish(int& counter) {
    ++counter;
    s_handler.check();
    s_handler.renew();
    s_handler.free_all();
    CHECK_PATTERN(s_between, 5000, 20);
    s_between = realloc(s_between, 50000);
    REQUIRE(s_between != nullptr);
    CHECK_PATTERN(s_between, 5000, 20);
    free(s_between);
}
static void in_parent() { finish(s_in_parent); }
static void in_child() { finish(s_in_child); }

[[gnu::constructor(101)]] static void early() {
    // Registered before main; allocates little, in all three.
    pthread_atfork([] { free(malloc(100)); }, [] { free(malloc(200)); }, [] { free(malloc(300)); });
}

static std::atomic<bool> s_stop;
static void* churn(void*) {
    check::Random random(5);
    void* blocks[50] = {};
    while (!s_stop) {
        void*& p = blocks[random.below(50)];
        p = realloc(p, random.below(9000) + 1);
    }
    for (void* p : blocks) free(p);
    return nullptr;
}

static void several_forks(int rounds) {
    s_all.make(200000, 1);
    for (int i = 0; i < rounds; ++i) {
        const pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            CHECK(s_in_child == 1 && s_in_parent == s_prepared - 1);
            s_all.check();
            s_all.repaint(3);
            const pid_t grandchild = fork();
            REQUIRE(grandchild >= 0);
            if (grandchild == 0) {
                CHECK(s_in_child == 2);
                s_all.check();
                _exit(check::result());
            }
            CHECK_CHILD(check::wait_status(grandchild));
            _exit(check::result());
        }
        CHECK(s_in_child == 0 && s_in_parent == s_prepared);
        CHECK_CHILD(check::wait_status(pid));
        s_all.check();
    }
    s_all.free_all();
}

int main() {
    check::begin();
    REQUIRE(pthread_atfork(prepare, in_parent, in_child) == 0);
    check::begin_case("handlers that allocate");
    several_forks(10);
    check::begin_case("handlers that allocate, with a busy thread");
    pthread_t thread;
    REQUIRE(pthread_create(&thread, nullptr, churn, nullptr) == 0);
    several_forks(20);
    s_stop = true;
    REQUIRE(pthread_join(thread, nullptr) == 0);
    return check::result();
}
