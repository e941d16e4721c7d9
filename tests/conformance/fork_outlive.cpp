// A daemonised child outlives its parent (which exits, or is killed): its copy of the heap stays
// whole while other processes open the same pool and allocate all they can; when the child is gone
// too, its memory comes back to the pool. Run by CTest through run.sh in both modes; in private
// mode the others are just other processes. Crash rule: check.hpp; the daemon ends when its pipe
// does.
#include <sys/prctl.h>

#include "tests/conformance/population.hpp"

static check::Population<400> s_all;  // about 60 MiB of a pool of 176 MiB
static check::Population<300> s_own;
static size_t most_to_take() { return check::pool_path() != nullptr ? 300u << 20 : 30u << 20; }

/// Another process: allocates until there is no more, checks, frees; exit code 0 when nothing was
/// damaged and at least `least` MiB were there.
static int hog(size_t least) {
    check::begin_case("another process of the pool");
    static void* blocks[100000];
    static constexpr size_t sizes[] = {100000, 3000, 60000, 1000000, 300};
    const size_t most = most_to_take();
    for (int round = 0; round < 2; ++round) {
        size_t n = 0;
        size_t bytes = 0;
        for (const size_t size : sizes) {
            while (n < 100000 && bytes < most) {
                blocks[n] = malloc(size);
                if (blocks[n] == nullptr) break;
                *static_cast<size_t*>(blocks[n]) = size;
                check::fill(static_cast<char*>(blocks[n]) + 8, size - 8, n);
                bytes += size;
                ++n;
            }
        }
        CHECK(bytes >= least << 20 || bytes >= most, "only %zu MiB", bytes >> 20);
        for (size_t i = 0; i < n; ++i) {
            CHECK_PATTERN(static_cast<char*>(blocks[i]) + 8, *static_cast<size_t*>(blocks[i]) - 8,
                          i);
            free(blocks[i]);
        }
    }
    return check::result();
}

static int run_hogs(int count, const char* least) {
    int worst = 0;
    pid_t pids[4];
    for (int i = 0; i < count; ++i) {
        pids[i] = fork();
        REQUIRE(pids[i] >= 0);
        if (pids[i] == 0) {
            execl("/proc/self/exe", "fork_outlive", "hog", least, nullptr);
            _exit(127);
        }
    }
    for (int i = 0; i < count; ++i) {
        const int status = check::wait_status(pids[i]);
        if (!check::exited_ok(status)) worst = status;
    }
    return worst;
}

static void outlive(bool parent_is_killed) {
    check::Pipe ready;
    check::Pipe go;
    check::Pipe end;
    const pid_t parent = fork();
    REQUIRE(parent >= 0);
    if (parent == 0) {
        s_all.make(2u << 20, 1);
        const pid_t daemon = fork();
        REQUIRE(daemon >= 0);
        if (daemon == 0) {
            setsid();
            s_all.check();
            for (size_t i = 0; i < 400; i += 2) {
                check::fill(s_all.blocks[i], s_all.sizes[i],
                            1 + i);  // half the pages become the child's own copies
            }
            ready.send();
            for (int round = 0; round < 2; ++round) {
                go.receive();
                s_all.check();
                s_own.make(100000, 60);
                s_own.check();
                s_all.check();
                s_own.free_all();
                end.send(check::result() == 0 ? 'y' : 'n');
            }
            _exit(0);
        }
        ready.receive();
        ready.send();
        if (parent_is_killed) raise(SIGKILL);
        s_all.repaint(9);
        exit(check::result());
    }
    const int status = check::wait_status(parent);
    if (parent_is_killed)
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    else
        CHECK_CHILD(status);
    ready.receive();
    CHECK_CHILD(run_hogs(1, "50"));
    go.send();
    CHECK(end.receive() == 'y', "the child's heap was damaged by one other process");
    CHECK_CHILD(run_hogs(3, "0"));
    go.send();
    CHECK(end.receive() == 'y', "the child's heap was damaged by three other processes");
    CHECK_CHILD(check::wait_status(-1));  // adopted: this process is a subreaper
}

int main(int argc, char** argv) {
    check::begin();
    if (argc > 2 && strcmp(argv[1], "hog") == 0) return hog(static_cast<size_t>(atol(argv[2])));
    REQUIRE(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    check::begin_case("parent exits");
    outlive(false);
    CHECK_CHILD(run_hogs(1, "130"));
    check::begin_case("parent is killed");
    outlive(true);
    CHECK_CHILD(run_hogs(1, "130"));
    check::begin_case("many generations, then everything is back");
    for (int i = 0; i < 3; ++i) outlive(i % 2 == 0);
    CHECK_CHILD(run_hogs(1, "130"));
    return check::result();
}
