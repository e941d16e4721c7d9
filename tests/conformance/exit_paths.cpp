// Every way to end a process: return, exit with handlers that allocate, exit from a thread while
// others allocate, _exit, quick_exit, abort, pthread_exit in main, static objects that free. Each
// starts this program again with the name of one way and checks its wait status and what it wrote.
// Run by CTest through run.sh in both modes. Crash rule: check.hpp.
#include <pthread.h>
#include <sched.h>

#include <map>
#include <string>
#include <vector>

#include "tests/conformance/population.hpp"

static check::Population<300> s_all;
static std::atomic<bool> s_go_on{true};
static std::atomic<int> s_running;

static void* churn(void*) {
    check::Random random(5);
    void* blocks[100] = {};
    s_running.fetch_add(1);
    while (s_go_on) {
        void*& p = blocks[random.below(100)];
        free(p);
        const size_t size = random.below(size_t{1} << random.below(19)) + 1;
        p = malloc(size);
        REQUIRE(p != nullptr);
        memset(p, 1, size < 100 ? size : 100);
    }
    for (void* p : blocks) free(p);
    return nullptr;
}
static void start_churn(pthread_t* threads, int count) {
    for (int i = 0; i < count; ++i)
        REQUIRE(pthread_create(&threads[i], nullptr, churn, nullptr) == 0);
    while (s_running < count) sched_yield();
}

/// Says on fd 1 that the end was reached; the parent looks for it.
static void say_end() { REQUIRE(write(1, "end\n", 4) == 4); }

/// Handler of exit and quick_exit: uses the heap as a program might.
static void at_end() {
    s_all.check();
    s_all.renew();
    s_all.free_all();
    char* text = nullptr;
    REQUIRE(asprintf(&text, "%d", 12345) == 5);
    free(text);
    say_end();
}

static std::map<std::string, std::vector<int>>* s_never_freed;
static bool s_static_case;
struct LateUser {
    std::map<std::string, std::string> words;
    ~LateUser() {
        if (!s_static_case) return;
        REQUIRE(words.size() == 500);
        words.clear();
        for (int i = 0; i < 500; ++i) words["again" + std::to_string(i)] = std::string(300, 'a');
        s_all.check();
        s_all.free_all();
        say_end();
    }
};
static LateUser s_late_user;

static void way_return() {
    atexit(at_end);
    s_never_freed = new std::map<std::string, std::vector<int>>;
    (*s_never_freed)["left behind"] = std::vector<int>(1000, 1);
}
static void way_statics() {
    s_static_case = true;
    for (int i = 0; i < 500; ++i)
        s_late_user.words["word" + std::to_string(i)] = std::string(200, 'w');
}
static void way_exit_busy() {
    atexit(at_end);
    pthread_t threads[4];
    start_churn(threads, 4);
    exit(0);
}
static void way_exit_thread() {
    atexit(at_end);
    pthread_t threads[3];
    start_churn(threads, 3);
    pthread_t ender;
    REQUIRE(pthread_create(
                &ender, nullptr, [](void*) -> void* { exit(0); }, nullptr) == 0);
    for (;;) pause();
}
static void way_underscore_exit() {
    pthread_t threads[4];
    start_churn(threads, 4);
    say_end();
    _exit(0);
}
static void way_quick_exit() {
    at_quick_exit(at_end);
    pthread_t threads[4];
    start_churn(threads, 4);
    quick_exit(0);
}
static void way_abort() {
    pthread_t threads[4];
    start_churn(threads, 4);
    say_end();
    abort();
}
static void way_pthread_exit() {
    // main ends first; the last thread to end ends the process, and the handlers run in it.
    atexit(at_end);
    static pthread_t threads[2];
    start_churn(threads, 2);
    static pthread_t last;
    static const pthread_t main_thread = pthread_self();
    REQUIRE(pthread_create(
                &last, nullptr,
                [](void*) -> void* {
                    REQUIRE(pthread_join(main_thread, nullptr) == 0);
                    s_all.check();
                    s_all.renew();
                    s_go_on = false;
                    for (const pthread_t thread : threads)
                        REQUIRE(pthread_join(thread, nullptr) == 0);
                    return nullptr;
                },
                nullptr) == 0);
    pthread_exit(nullptr);
}
static void way_return_busy() {
    pthread_t threads[4];
    start_churn(threads, 4);
    for (const pthread_t thread : threads) pthread_detach(thread);
    say_end();
}
static void way_child_exit() {
    // exit in a forked child of a busy process: its handlers run on the child's own heap.
    atexit(at_end);
    pthread_t threads[4];
    start_churn(threads, 4);
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) exit(0);
    CHECK_CHILD(check::wait_status(pid));
    s_all.check();
    _exit(check::result());
}

struct Way {
    const char* name;
    void (*run)();
    int times;
};
static const Way k_ways[] = {{"return", way_return, 2},
                             {"statics", way_statics, 2},
                             {"exit-busy", way_exit_busy, 10},
                             {"exit-thread", way_exit_thread, 10},
                             {"underscore-exit", way_underscore_exit, 5},
                             {"quick-exit", way_quick_exit, 10},
                             {"abort", way_abort, 5},
                             {"pthread-exit", way_pthread_exit, 10},
                             {"return-busy", way_return_busy, 10},
                             {"child-exit", way_child_exit, 5}};

static void one_end(const Way& way, bool statistics) {
    check::Pipe output;
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        dup2(output.ends[1], 1);
        if (statistics) {
            setenv("AEP_STATS", "1", 1);
            const int null = open("/dev/null", O_WRONLY);
            dup2(null, 2);
        }
        execl("/proc/self/exe", "exit_paths", way.name, nullptr);
        _exit(127);
    }
    close(output.ends[1]);
    output.ends[1] = -1;
    char text[64] = "";
    size_t have = 0;
    for (ssize_t got; have < sizeof text - 1 &&
                      (got = read(output.ends[0], text + have, sizeof text - 1 - have)) > 0;)
        have += static_cast<size_t>(got);
    const int status = check::wait_status(pid);
    if (strcmp(way.name, "abort") == 0)
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "wait status 0x%x", status);
    else
        CHECK_CHILD(status);
    CHECK(strcmp(text, "end\n") == 0, "wrote '%s'", text);
}

int main(int argc, char** argv) {
    check::begin();
    if (argc > 1) {
        s_all.make(200000, 1);
        for (const Way& way : k_ways) {
            if (strcmp(way.name, argv[1]) != 0) continue;
            check::begin_case(way.name);
            way.run();
            return check::result();
        }
        REQUIRE(false, "no such way: %s", argv[1]);
    }
    for (const Way& way : k_ways) {
        check::begin_case(way.name);
        for (int i = 0; i < way.times; ++i) one_end(way, i % 4 == 3);
    }
    return check::result();
}
