// A memory cgroup of 64 MiB is smaller than the pool (256 MiB): the allocator says ENOMEM before
// the group is full, no process is killed by the OOM killer and none gets SIGBUS. cgroup v1 or v2;
// needs root. Run by CTest through run.sh in pool mode. Crash rule:
// check.hpp; a killed run leaves an empty group aep-test-PID behind.
#include "tests/conformance/exhaust.hpp"

static constexpr size_t k_limit = 64u << 20;
static char s_group[600];

static bool write_file(const char* name, const char* text) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", s_group, name);
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const bool good = write(fd, text, strlen(text)) == static_cast<ssize_t>(strlen(text));
    close(fd);
    return good;
}

/// This process's group in the given hierarchy ("memory" for v1, "" for v2), as /proc/self/cgroup
/// has it.
static void own_group(const char* controller, char* out, size_t size) {
    static char text[4096];
    const int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    const ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    REQUIRE(length > 0);
    text[length] = 0;
    out[0] = 0;
    for (char* line = strtok(text, "\n"); line != nullptr; line = strtok(nullptr, "\n")) {
        char* names = strchr(line, ':') + 1;
        char* path = strchr(names, ':');
        *path++ = 0;
        if (strcmp(names, controller) == 0) snprintf(out, size, "%s", path);
    }
}

/// Makes a group below our own (or at the top when ours is not visible here) and sets the limit.
static void make_group() {
    check::begin_case("making a memory cgroup");
    const bool v1 = access("/sys/fs/cgroup/memory/memory.limit_in_bytes", F_OK) == 0;
    const char* top = v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup";
    char own[300];
    own_group(v1 ? "memory" : "", own, sizeof own);
    char parent[400];
    snprintf(parent, sizeof parent, "%s%s", top, own);
    if (!v1 || access(parent, W_OK) != 0) snprintf(parent, sizeof parent, "%s", top);
    if (!v1) {
        snprintf(s_group, sizeof s_group, "%s", top);
        write_file("cgroup.subtree_control", "+memory");
    }
    snprintf(s_group, sizeof s_group, "%s/aep-test-%d", parent, static_cast<int>(getpid()));
    CANNOT_RUN_UNLESS(mkdir(s_group, 0700) == 0, "a memory cgroup of its own needs root");
    const bool limited =
        v1 ? write_file("memory.limit_in_bytes", "67108864") : write_file("memory.max", "67108864");
    if (!limited) rmdir(s_group);
    REQUIRE(limited, "cannot limit %s", s_group);
    if (v1)
        write_file("memory.memsw.limit_in_bytes", "67108864");
    else
        write_file("memory.swap.max", "0");
}

int main(int argc, char** argv) {
    check::begin();
    if (argc > 1) {
        check::begin_case(argv[1]);
        if (strcmp(argv[1], "threads") == 0)
            check::exhaust_in_threads(3000, k_limit / 2);
        else
            check::exhaust(static_cast<size_t>(atol(argv[1])), k_limit / 2, 4 * k_limit);
        return check::result();
    }
    make_group();
    for (const char* part : {"3000", "100000", "100", "threads", "1000000"}) {
        check::begin_case(part);
        const pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            // Each part on a pool of its own: pages of a shared one would stay charged to the group
            // that touched them first.
            char pool[300];
            snprintf(pool, sizeof pool, "%s/pool", getenv("AEP_TEST_DIR"));
            unlink(pool);
            setenv("AEP_POOL", pool, 1);
            REQUIRE(write_file("cgroup.procs", "0"), "cannot enter %s", s_group);
            execl("/proc/self/exe", "cgroup_full", part, nullptr);
            _exit(127);
        }
        const int status = check::wait_status(pid);
        CHECK(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL), "the OOM killer came");
        CHECK(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS), "SIGBUS");
        CHECK_CHILD(status);
    }
    CHECK(rmdir(s_group) == 0, "%s", s_group);
    return check::result();
}
