// fork copies the heap: each process sees the contents at the fork and its own writes only. Plain,
// nested, repeated, with several children alive, from a thread that is not main. Run by CTest
// through run.sh in both modes. Crash rule: check.hpp.
#include <pthread.h>

#include "tests/conformance/population.hpp"

static check::Population<400> s_all;
static check::Population<400> s_own;

static void plain() {
    check::begin_case("plain");
    s_all.make(1u << 20, 1);
    void* huge = malloc(6u << 20);
    REQUIRE(huge != nullptr);
    check::fill(huge, 6u << 20, 1);
    check::Pipe to_parent;
    check::Pipe to_child;
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        s_all.check();
        CHECK_PATTERN(huge, 6u << 20, 1);
        check::fill(huge, 6u << 20, 2);
        s_all.repaint(2);
        s_own.make(1u << 19, 50);
        s_all.check();
        to_parent.send();
        to_child.receive();
        s_all.check();
        s_own.check();
        CHECK_PATTERN(huge, 6u << 20, 2);
        free(huge);
        s_all.renew();
        s_own.renew();
        s_all.check();
        s_own.check();
        s_all.free_all();
        s_own.free_all();
        _exit(check::result());
    }
    to_parent.receive();
    s_all.check();
    s_all.repaint(3);
    s_own.make(1u << 19, 70);
    s_all.renew();
    to_child.send();
    CHECK_CHILD(check::wait_status(pid));
    s_all.check();
    s_own.check();
    CHECK_PATTERN(huge, 6u << 20, 1);
    free(huge);
    s_all.free_all();
    s_own.free_all();
}

static void nest(int depth) {
    s_all.check();
    s_all.renew();
    s_all.repaint(100 + static_cast<uint64_t>(depth));
    if (depth == 5) return;
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        nest(depth + 1);
        s_all.check();
        s_all.free_all();
        _exit(check::result());
    }
    s_all.renew();
    s_own.make(20000, 5);
    CHECK_CHILD(check::wait_status(pid));
    s_own.check();
    s_own.free_all();
    s_all.check();
}

static void nested() {
    check::begin_case("nested to depth 5");
    s_all.make(300000, 7);
    nest(0);
    s_all.free_all();
}

static void repeated() {
    check::begin_case("60 forks");
    s_all.make(60000, 8);
    long early = 0;
    for (int round = 0; round < 60; ++round) {
        const pid_t pid = fork();
        REQUIRE(pid >= 0, "round %d", round);
        if (pid == 0) {
            s_all.check();
            s_all.repaint(1000);
            s_all.renew();
            s_all.check();
            _exit(check::result());
        }
        s_all.renew();
        CHECK_CHILD(check::wait_status(pid));
        s_all.check();
        s_all.repaint(static_cast<uint64_t>(round));
        if (round == 20) early = check::heap_footprint();
    }
    const long late = check::heap_footprint();
    CHECK(late - early < (24 << 20), "footprint %ld after 20 forks, %ld after 60 (live %zu)", early,
          late, s_all.bytes());
    s_all.free_all();
}

static void siblings() {
    check::begin_case("eight children alive at once");
    s_all.make(200000, 9);
    check::Pipe ready;
    check::Pipe go;
    pid_t pids[8];
    for (unsigned i = 0; i < 8; ++i) {
        pids[i] = fork();
        REQUIRE(pids[i] >= 0);
        if (pids[i] == 0) {
            s_all.check();
            s_all.repaint(500 + i);
            s_all.renew();
            s_own.make(300000, 900 + i);
            ready.send();
            go.receive();
            s_all.check();
            s_own.check();
            _exit(check::result());
        }
        s_all.check();
        s_all.repaint(20 + i);
    }
    for (int i = 0; i < 8; ++i) ready.receive();
    s_all.check();
    s_all.renew();
    for (int i = 0; i < 8; ++i) go.send();
    for (const pid_t pid : pids) CHECK_CHILD(check::wait_status(pid));
    s_all.check();
    s_all.free_all();
}

static void generations() {
    check::begin_case("child goes on forking when its parent is gone");
    s_all.make(500000, 10);
    check::Pipe end;
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        // Ten generations, each the child of one that exits at once; the last one reports.
        for (unsigned i = 0; i < 10; ++i) {
            s_all.check();
            s_all.renew();
            s_all.repaint(30 + i);
            const pid_t next = fork();
            REQUIRE(next >= 0);
            if (next != 0) _exit(check::result());
        }
        s_all.check();
        s_all.free_all();
        end.send(check::result() == 0 ? 'y' : 'n');
        _exit(0);
    }
    CHECK_CHILD(check::wait_status(pid));
    CHECK(end.receive() == 'y');
    s_all.check();
    s_all.free_all();
}

static void from_thread() {
    check::begin_case("from a thread that is not main");
    s_all.make(500000, 11);
    pthread_t thread;
    REQUIRE(pthread_create(
                &thread, nullptr,
                [](void*) -> void* {
                    s_own.make(200000, 40);
                    CHECK_CHILD(check::run_in_child([] {
                        s_all.check();
                        s_own.check();
                        s_all.repaint(12);
                        s_all.renew();
                        s_own.free_all();
                        CHECK_CHILD(check::run_in_child([] { s_all.check(); }));
                        s_all.check();
                        s_all.free_all();
                    }));
                    s_own.check();
                    return nullptr;
                },
                nullptr) == 0);
    REQUIRE(pthread_join(thread, nullptr) == 0);
    s_all.check();
    s_own.check();
    s_all.free_all();
    s_own.free_all();
}

static void exits_normally() {
    check::begin_case("child ends by exit, not _exit");
    s_all.make(100000, 13);
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        s_all.check();
        s_all.free_all();
        exit(check::result());
    }
    CHECK_CHILD(check::wait_status(pid));
    s_all.check();
    s_all.free_all();
}

int main() {
    check::begin();
    plain();
    nested();
    repeated();
    siblings();
    generations();
    from_thread();
    exits_normally();
    return check::result();
}
