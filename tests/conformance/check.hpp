// The one header of the conformance programs: checks, children, patterns, memory figures.
//
// Every program of this folder includes it, calls check::begin() first and returns check::result().
// The programs know nothing of the allocator under test but its environment variables; run.sh
// preloads it. Nothing here allocates, so a broken allocator can still be reported. Crash rule: a
// program that dies leaves only what run.sh removes (the pool file and the scratch folder).
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace check {

inline std::atomic<int> failures{0};
inline const char* volatile current_case = "start";

/// Reports one failed check on fd 2; gives up after 20 of them.
[[gnu::format(printf, 4, 5), gnu::cold]] inline void fail(const char* file, int line,
                                                          const char* what, const char* format,
                                                          ...) {
    const int saved = errno;
    char detail[400];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    const char* base = strrchr(file, '/');
    dprintf(2, "FAIL %s:%d [%s] %s%s%s (errno %d, pid %d)\n", base ? base + 1 : file, line,
            current_case, what, detail[0] ? ": " : "", detail, saved, static_cast<int>(getpid()));
    if (failures.fetch_add(1) + 1 >= 20) {
        dprintf(2, "FAIL too many failures\n");
        _exit(1);
    }
    errno = saved;
}

/// Checks that cond holds; the optional rest is a printf format and its arguments.
#define CHECK(cond, ...)                                                      \
    do {                                                                      \
        if (!(cond)) check::fail(__FILE__, __LINE__, #cond, " " __VA_ARGS__); \
    } while (0)
/// As CHECK, but what follows makes no sense without it: ends the process.
#define REQUIRE(cond, ...)                                           \
    do {                                                             \
        if (!(cond)) {                                               \
            check::fail(__FILE__, __LINE__, #cond, " " __VA_ARGS__); \
            _exit(1);                                                \
        }                                                            \
    } while (0)

/// Says that the machine or the user's rights do not allow a part of the test: that is counted and
/// named (tests/README.md).
inline void cannot_run(const char* part, const char* why) {
    dprintf(1, "CANNOT RUN: %s: %s\n", part, why);
}
/// The same of the whole program, which ends: neither a failure nor a success.
#define CANNOT_RUN_UNLESS(cond, why)                               \
    do {                                                           \
        if (!(cond)) {                                             \
            check::cannot_run(program_invocation_short_name, why); \
            _exit(77);                                             \
        }                                                          \
    } while (0)

/// Names what is being tested from here on; printed with failures and on a timeout.
inline void begin_case(const char* name) { current_case = name; }

inline void on_timeout(int) {
    const char* name = current_case;
    const ssize_t a = write(2, "FAIL timed out in case ", 23);
    const ssize_t b = write(2, name, strlen(name));
    const ssize_t c = write(2, "\n", 1);
    _exit(a + b + c < 0 ? 3 : 2);
}

/// First call of each program: no core files, and a timeout (SIGTERM of the driver) that says where
/// it hung.
inline void begin() {
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    struct sigaction action = {};
    action.sa_handler = on_timeout;
    sigaction(SIGTERM, &action, nullptr);
}

inline int result() { return failures.load() == 0 ? 0 : 1; }

/// Hides a pointer (or number) from the optimiser, so that no allocation is removed or reasoned
/// about.
template <typename T>
inline T opaque(T value) {
    asm volatile("" : "+r"(value) : : "memory");
    return value;
}

inline int64_t now_ms() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

/// A small random generator (xorshift), seeded per use so that a failure can be repeated.
struct Random {
    uint64_t state;
    explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15u + 0x1234567u) { next(); }
    uint64_t next() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
    }
    size_t below(size_t limit) { return static_cast<size_t>(next() % limit); }
};

/// The eight bytes that belong at position 8 * i of a block with this seed.
inline uint64_t pattern_word(size_t i, uint64_t seed) {
    return (i + 1) * 0x9e3779b97f4a7c15u + (seed + 1) * 0xc2b2ae3d27d4eb4fu;
}
inline unsigned char pattern_byte(size_t i, uint64_t seed) {
    return static_cast<unsigned char>(pattern_word(i / 8, seed) >> (i % 8 * 8));
}

inline void fill(void* p, size_t n, uint64_t seed) {
    auto* bytes = static_cast<unsigned char*>(p);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const uint64_t word = pattern_word(i / 8, seed);
        __builtin_memcpy(bytes + i, &word, 8);
    }
    for (; i < n; ++i) bytes[i] = pattern_byte(i, seed);
}

/// Position of the first byte that is not the pattern's, or -1.
inline ssize_t first_damage(const void* p, size_t n, uint64_t seed) {
    const auto* bytes = static_cast<const unsigned char*>(p);
    uint64_t differs = 0;
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint64_t word;
        __builtin_memcpy(&word, bytes + i, 8);
        differs |= word ^ pattern_word(i / 8, seed);
    }
    for (size_t i = differs == 0 ? n / 8 * 8 : 0; i < n; ++i)
        if (bytes[i] != pattern_byte(i, seed)) return static_cast<ssize_t>(i);
    return -1;
}
#define CHECK_PATTERN(p, n, seed)                                                             \
    do {                                                                                      \
        const ssize_t at_ = check::first_damage(p, n, seed);                                  \
        if (at_ >= 0)                                                                         \
            check::fail(__FILE__, __LINE__, "the block keeps its contents",                   \
                        " %p size %zu seed %llu damaged at %zd", static_cast<const void*>(p), \
                        static_cast<size_t>(n), static_cast<unsigned long long>(seed), at_);  \
    } while (0)

inline bool all_zero(const void* p, size_t n) {
    const auto* bytes = static_cast<const unsigned char*>(p);
    return n == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0);
}

/// Waits for a child, restarting on EINTR; -1 when there is none.
inline int wait_status(pid_t pid) {
    int status = -1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return status;
}

inline bool exited_ok(int status) {
    return status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// Runs the function in a forked child and returns its wait status; the child's failed checks make
/// it exit with 1.
template <typename Function>
inline int run_in_child(Function function) {
    const pid_t pid = fork();
    if (pid < 0) return -1;
    if (pid == 0) {
        failures = 0;
        function();
        _exit(result());
    }
    return wait_status(pid);
}
inline void check_child(const char* file, int line, int status) {
    if (exited_ok(status)) return;
    const bool killed = WIFSIGNALED(status);
    fail(file, line, "child ends well", " wait status 0x%x (%s %d)", status,
         killed ? "signal" : "exit", killed ? WTERMSIG(status) : WEXITSTATUS(status));
}
#define CHECK_CHILD(status)                               \
    do {                                                  \
        check::check_child(__FILE__, __LINE__, (status)); \
    } while (0)

/// Path of the pool file when this program runs in pool mode, else null.
inline const char* pool_path() {
    const char* path = getenv("AEP_POOL");
    if (path == nullptr) path = getenv("AEP_TEST_POOL");  // joined mode: the context's
    return path != nullptr && path[0] != 0 ? path : nullptr;
}

/// A "Name:   123 kB" figure of /proc/self/status in bytes; -1 when missing.
inline long status_bytes(const char* name) {
    char text[4096];
    const int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    size_t have = 0;
    for (ssize_t got;
         have < sizeof text - 1 && (got = read(fd, text + have, sizeof text - 1 - have)) > 0;)
        have += static_cast<size_t>(got);
    close(fd);
    text[have] = 0;
    const char* at = strstr(text, name);
    return at == nullptr ? -1 : atol(at + strlen(name)) * 1024;
}

/// Memory this process's heap occupies: anonymous resident bytes, and in pool mode the blocks of
/// the pool file.
inline long heap_footprint() {
    long bytes = status_bytes("RssAnon:");
    struct stat info;
    if (const char* path = pool_path(); path != nullptr && stat(path, &info) == 0)
        bytes += info.st_blocks * 512;
    return bytes;
}

/// Whether memory that is only ever read costs something: some kernels of virtual machines have no
/// page of zeros that all share.
inline bool reading_costs_memory() {
    constexpr size_t bytes = 4 << 20;
    const long before = status_bytes("RssAnon:");
    void* at = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    REQUIRE(at != MAP_FAILED);
    const long after = status_bytes("RssAnon:");
    munmap(at, bytes);
    return after - before > static_cast<long>(bytes / 2);
}

/// One-byte messages between processes. A send or receive that fails ends the process: the other
/// side is gone.
struct Pipe {
    int ends[2];
    Pipe() { REQUIRE(pipe2(ends, O_CLOEXEC) == 0); }
    ~Pipe() {
        close(ends[0]);
        close(ends[1]);
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    void send(char byte = 'x') { REQUIRE(write(ends[1], &byte, 1) == 1); }
    char receive() {
        char byte = 0;
        ssize_t got;
        while ((got = read(ends[0], &byte, 1)) < 0 && errno == EINTR) {
        }
        REQUIRE(got == 1, "the other process is gone");
        return byte;
    }
};

}  // namespace check
