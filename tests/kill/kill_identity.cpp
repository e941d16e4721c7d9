// Who is dead? A node's identity survives reuse of its pid: a killed process's memory comes back
// although a new process has its pid, and the new one's memory is its own. A process in another pid
// namespace (where its pid is the same small number as another's), one that is stopped, and one
// that has replaced itself by exec are told apart as well. Needs root (clone3 with a chosen pid, a
// pid namespace). Run by CTest through run.sh in pool mode. Crash rule:
// supervisor.hpp.
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>

#include "tests/kill/supervisor.hpp"

static constexpr size_t k_held = 20u << 20;

/// Holds memory until it is told on fd 0 (one byte) to check it and end; says on fd 1 when it holds
/// it.
static int holder(const char* seed_text) {
    check::begin_case("holder");
    constexpr size_t size = 50000;
    constexpr size_t count = k_held / size;
    static void* blocks[count];
    const auto seed = static_cast<uint64_t>(atol(seed_text));
    for (size_t i = 0; i < count; ++i) {
        blocks[i] = malloc(size);
        REQUIRE(blocks[i] != nullptr, "block %zu", i);
        check::fill(blocks[i], size, seed + i);
    }
    char byte = 'r';
    REQUIRE(write(1, &byte, 1) == 1);
    REQUIRE(read(0, &byte, 1) == 1);
    for (size_t i = 0; i < count; ++i) {
        CHECK_PATTERN(blocks[i], size, seed + i);
        free(blocks[i]);
    }
    return check::result();
}

struct Holder {
    check::Pipe to;
    check::Pipe from;
    pid_t pid = -1;

    enum class Place { here, pid_namespace };
    /// Starts one; with a pid of choice when `wanted` is not 0.
    void start(const char* seed, pid_t wanted = 0, Place place = Place::here) {
        pid_t chosen = wanted;
        struct clone_args arguments = {};
        arguments.exit_signal = SIGCHLD;
        if (place == Place::pid_namespace) arguments.flags = CLONE_NEWPID;
        if (wanted != 0) {
            arguments.set_tid = reinterpret_cast<uintptr_t>(&chosen);
            arguments.set_tid_size = 1;
        }
        pid = static_cast<pid_t>(syscall(SYS_clone3, &arguments, sizeof arguments));
        CANNOT_RUN_UNLESS(pid >= 0, "a child with a chosen pid needs root");
        if (pid == 0) {
            dup2(to.ends[0], 0);
            dup2(from.ends[1], 1);
            kill_test::become_worker("hold", seed);
        }
        CHECK(wanted == 0 || pid == wanted);
        // Its own ends only: when it dies, our read must end.
        close(to.ends[0]);
        close(from.ends[1]);
        to.ends[0] = from.ends[1] = -1;
        from.receive();
    }
    void kill_it() {
        REQUIRE(kill(pid, SIGKILL) == 0);
        const int status = check::wait_status(pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "wait status 0x%x", status);
    }
    void finish() {
        to.send();
        CHECK_CHILD(check::wait_status(pid));
    }
};

/// What must be left when one holder holds its part: all but that part and a chunk or two.
static void expect_room(size_t whole, size_t holders, const char* what) {
    const size_t all = kill_test::count_all();
    const size_t taken = holders * (k_held + (8u << 20)) / 65536;
    CHECK((all + taken) * 100 >= whole * 99, "%s: %zu of %zu blocks, %zu holders alive", what, all,
          whole, holders);
}

static int supervise() {
    const size_t whole = kill_test::count_all();
    check::begin_case("a new process with a dead one's pid");
    for (int round = 0; round < 3; ++round) {
        Holder dead;
        dead.start("100");
        dead.kill_it();
        Holder heir;
        heir.start("200", dead.pid);
        expect_room(whole, 1, "the dead one's memory");
        heir.finish();
        expect_room(whole, 0, "all gone");
    }
    check::begin_case("same pid in two pid namespaces");
    {
        Holder outside;
        outside.start("300");
        Holder inside;
        inside.start("400", 0, Holder::Place::pid_namespace);
        Holder inside_too;
        inside_too.start("500", 0, Holder::Place::pid_namespace);
        kill_test::count_all();  // takes all it can: must not take what they hold
        inside_too.kill_it();
        expect_room(whole, 2, "one namespace's process is dead");
        kill_test::count_all();
        inside.finish();
        outside.finish();
        expect_room(whole, 0, "all gone");
    }
    check::begin_case("a stopped process is not dead");
    {
        Holder stopped;
        stopped.start("600");
        REQUIRE(kill(stopped.pid, SIGSTOP) == 0);
        int status;
        REQUIRE(waitpid(stopped.pid, &status, WUNTRACED) == stopped.pid);
        kill_test::count_all();
        REQUIRE(kill(stopped.pid, SIGCONT) == 0);
        stopped.finish();
    }
    check::begin_case("exec ends the node although the process lives");
    {
        check::Pipe to;
        check::Pipe from;
        const pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            dup2(to.ends[0], 0);
            dup2(from.ends[1], 1);
            kill_test::become_worker("hold-then-exec", "700");
        }
        from.receive();
        to.send();
        from.receive();  // it is a program without the preload now, with the same pid
        expect_room(whole, 0, "after exec");
        to.send();
        CHECK_CHILD(check::wait_status(pid));
    }
    return check::result();
}

/// Holds memory, then becomes a plain shell that waits for a line.
static int hold_then_exec() {
    for (size_t i = 0; i < k_held / 50000; ++i) {
        void* p = malloc(50000);
        REQUIRE(p != nullptr);
        check::fill(p, 50000, i);
    }
    char byte = 'r';
    REQUIRE(write(1, &byte, 1) == 1);
    REQUIRE(read(0, &byte, 1) == 1);
    unsetenv("LD_PRELOAD");
    execl("/bin/sh", "sh", "-c", "printf r; head -c 1 >/dev/null", nullptr);
    return 127;
}

int main(int argc, char** argv) {
    check::begin();
    if (argc > 2 && strcmp(argv[1], "hold") == 0) return holder(argv[2]);
    if (argc > 2 && strcmp(argv[1], "hold-then-exec") == 0) return hold_then_exec();
    if (argc > 2 && strcmp(argv[1], "take-all") == 0) return kill_test::take_all();
    kill_test::leave_the_pool(argv);
    return supervise();
}
