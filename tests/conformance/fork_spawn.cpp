// vfork and exec, posix_spawn, system, popen and daemon(): the new program runs, the old one's heap
// stays whole and usable. Run by CTest through run.sh in both modes. Crash rule: check.hpp; the
// daemon ends with its pipe.
#include <pthread.h>
#include <spawn.h>

#include "tests/conformance/population.hpp"

static check::Population<300> s_all;
extern char** environ;

static void with_vfork() {
    check::begin_case("vfork and exec");
    for (int i = 0; i < 20; ++i) {
        const pid_t pid = vfork();
        if (pid == 0) {
            execl("/bin/true", "true", nullptr);
            _exit(127);
        }
        REQUIRE(pid > 0);
        s_all.renew();
        CHECK_CHILD(check::wait_status(pid));
    }
    check::begin_case("vfork and _exit");
    const pid_t pid = vfork();
    if (pid == 0) _exit(0);
    CHECK_CHILD(check::wait_status(pid));
    s_all.check();
}

static void with_spawn() {
    check::begin_case("posix_spawn");
    for (int i = 0; i < 20; ++i) {
        pid_t pid;
        const char* arguments[] = {"sh", "-c", "x=$(echo $((6 * 7))); test $x = 42", nullptr};
        REQUIRE(posix_spawn(&pid, "/bin/sh", nullptr, nullptr, const_cast<char**>(arguments),
                            environ) == 0);
        s_all.renew();
        CHECK_CHILD(check::wait_status(pid));
    }
    s_all.check();
}

static void with_system() {
    check::begin_case("system");
    CHECK(system("exit 3") == 3 << 8);
    CHECK(system("echo one two | (read a b; test $b = two)") == 0);
    s_all.check();
    check::begin_case("popen");
    for (int i = 0; i < 10; ++i) {
        FILE* in = popen("seq 1 2000", "r");
        REQUIRE(in != nullptr);
        long sum = 0;
        long number;
        while (fscanf(in, "%ld", &number) == 1) sum += number;
        CHECK(sum == 2001000, "sum %ld", sum);
        CHECK(pclose(in) == 0);
        s_all.renew();
    }
    FILE* out = popen("read line; test \"$line\" = hello", "w");
    REQUIRE(out != nullptr);
    CHECK(fputs("hello\n", out) >= 0);
    CHECK(pclose(out) == 0);
    s_all.check();
}

static void with_daemon() {
    check::begin_case("daemon()");
    check::Pipe end;
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        s_all.repaint(5);
        REQUIRE(daemon(1, 1) == 0);
        s_all.check();
        s_all.renew();
        s_all.repaint(6);
        s_all.check();
        s_all.free_all();
        end.send(check::result() == 0 ? 'y' : 'n');
        _exit(0);
    }
    CHECK_CHILD(check::wait_status(pid));
    CHECK(end.receive() == 'y');
    s_all.check();
}

static std::atomic<bool> s_stop;
static void* churn(void*) {
    check::Random random(3);
    while (!s_stop) {
        const size_t size = random.below(50000) + 1;
        void* p = malloc(size);
        REQUIRE(p != nullptr);
        check::fill(p, size, size);
        CHECK_PATTERN(p, size, size);
        free(p);
    }
    return nullptr;
}

int main() {
    check::begin();
    s_all.make(300000, 1);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, nullptr, churn, nullptr) == 0);
    with_vfork();
    with_spawn();
    with_system();
    with_daemon();
    s_stop = true;
    REQUIRE(pthread_join(thread, nullptr) == 0);
    s_all.free_all();
    return check::result();
}
