// Purpose: aep_bench_launch: runs one command and reports what it cost: elapsed time, CPU time,
// page
//          faults and peak memory of its whole process tree, as one line of JSON on the descriptor
//          given.
// Who calls it: bench/driver/measure.py for every measured process.
// Crash rule: the command dies with the launcher (PR_SET_PDEATHSIG).
//
//     aep_bench_launch REPORT_FD PRELOAD POOL COMMAND ARGS...      ("" for no preload or no pool)
//
// A small program of its own, because ru_maxrss of a child is never less than the memory of the
// process it was forked from: a child of Python would start at Python's 30 MB. Peak memory is
//     max(ru_maxrss, resident memory + pool blocks that are allocated but not mapped).
// The second term counts pool memory that a process has dropped from its own mapping but not given
// back. It is sampled every 5 ms, and only when there is a pool.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int SAMPLE_MS = 5;

/// A "Name:  123 kB" line of /proc/PID/status, 0 when it is not there.
long status_kib(const char* status, const char* name) {
    const char* const line = std::strstr(status, name);
    return line == nullptr ? 0 : std::atol(line + std::strlen(name));
}

long pool_kib(const char* pool) {
    struct stat facts {};
    return *pool != 0 && stat(pool, &facts) == 0 ? static_cast<long>(facts.st_blocks / 2) : 0;
}

/// Memory of the process plus what the pool file holds beyond the process's mapping of it.
long footprint_kib(pid_t pid, const char* pool) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%d/status", static_cast<int>(pid));
    char status[4096];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    const ssize_t got = read(fd, status, sizeof status - 1);
    close(fd);
    if (got <= 0) return 0;
    status[got] = 0;
    const long resident = status_kib(status, "VmRSS:");
    const long mapped = status_kib(status, "RssShmem:");
    return resident + std::max(0L, pool_kib(pool) - mapped);
}

[[noreturn]] void become(char** command, const char* preload, pid_t launcher) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != launcher) _exit(126);
    if (*preload != 0) setenv("LD_PRELOAD", preload, 1);
    execvp(command[0], command);
    std::fprintf(stderr, "bench: %s: %s\n", command[0], std::strerror(errno));
    _exit(127);
}

double seconds(const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

/// Waits for the end of `pid`, sampling its memory when there is a pool; returns the largest
/// sample.
long watch(pid_t pid, const char* pool) {
    long peak = 0;
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    if (pidfd < 0 || *pool == 0) return peak;
    pollfd ended{pidfd, POLLIN, 0};
    while (poll(&ended, 1, SAMPLE_MS) == 0) peak = std::max(peak, footprint_kib(pid, pool));
    close(pidfd);
    return peak;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 5) {
        std::fprintf(stderr, "usage: %s REPORT_FD PRELOAD POOL COMMAND ARGS...\n", argv[0]);
        return 2;
    }
    const int report = std::atoi(argv[1]);
    const char* const pool = argv[3];
    fcntl(report, F_SETFD, FD_CLOEXEC);

    const pid_t launcher = getpid();
    const auto start = std::chrono::steady_clock::now();
    const pid_t child = fork();
    if (child < 0) {
        std::perror("bench: fork");
        return 2;
    }
    if (child == 0) become(argv + 4, argv[2], launcher);
    long peak = watch(child, pool);
    int status = 0;
    rusage usage{};
    while (wait4(child, &status, 0, &usage) < 0 && errno == EINTR) {
    }
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    peak = std::max({peak, usage.ru_maxrss, pool_kib(pool)});
    dprintf(
        report,
        R"({"wall": %.6f, "user": %.6f, "system": %.6f, "faults": %ld, "rss_kib": %ld, "status": %d})"
        "\n",
        wall.count(), seconds(usage.ru_utime), seconds(usage.ru_stime), usage.ru_minflt, peak,
        WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
    return 0;
}
