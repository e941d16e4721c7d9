// A fork that is refused because the heap cannot be made private for the child (ENOMEM under
// RLIMIT_DATA): it says so, no child is left to be reaped, and the heap works as before, also where
// some of it had been made private already; later forks work. By fork, _Fork and clone, each
// refused before the first range, and after one. Run by CTest through run.sh in pool and joined
// mode. Crash rule: check.hpp.
#include <malloc.h>
#include <sched.h>

#include "tests/conformance/population.hpp"

static check::Population<400> s_blocks;

/// Nothing more counts as data but `room` bytes.
static void limit_data(long room) {
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_DATA, &limit) == 0);
    limit.rlim_cur = static_cast<rlim_t>(check::status_bytes("VmData:") + room);
    REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
}
static void lift_limit() {
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_DATA, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
}

/// Bytes of the heap below the address that are ours and not private yet, from the kernel's list.
static long shared_below(uintptr_t address) {
    static char text[1 << 20];
    const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    size_t have = 0;
    for (ssize_t got; (got = read(fd, text + have, sizeof text - 1 - have)) > 0;)
        have += static_cast<size_t>(got);
    close(fd);
    text[have] = 0;
    long bytes = 0;
    for (const char* line = text; *line != 0; line = strchr(line, '\n') + 1) {
        unsigned long begin = 0, end = 0;
        char access[5] = "";
        REQUIRE(sscanf(line, "%lx-%lx %4s", &begin, &end, access) == 3);
        if (begin < 0x1200'0000'0000 || begin >= address || access[0] != 'r' || access[3] != 's')
            continue;
        bytes += static_cast<long>((end < address ? end : address) - begin);
    }
    return bytes;
}

static int run_clone_child(void*) { _exit(99); }

static pid_t fork_by(int way) {
    static char stack[64 << 10];
    switch (way) {
        case 0:
            return fork();
        case 1:
            return _Fork();
        default:
            return clone(run_clone_child, stack + sizeof stack, SIGCHLD, nullptr);
    }
}

/// As if nothing had happened: contents, recycled memory that reads as zero, memory that goes back
/// and comes again.
static void use_the_heap() {
    s_blocks.check();
    s_blocks.renew();
    s_blocks.check();
    for (const size_t size : {size_t{100}, size_t{5000}, size_t{200'000}, size_t{5} << 20}) {
        void* blocks[4];
        for (void*& p : blocks) {
            p = malloc(size);
            REQUIRE(p != nullptr);
            check::fill(p, size, size);
        }
        for (void* p : blocks) {
            CHECK_PATTERN(p, size, size);
            free(p);
        }
        malloc_trim(0);
        for (void*& p : blocks) {
            p = calloc(1, size);
            REQUIRE(p != nullptr);
            CHECK(check::all_zero(p, size), "calloc of %zu", size);
            check::fill(p, size, size + 1);
        }
        for (void* p : blocks) {
            CHECK_PATTERN(p, size, size + 1);
            free(p);
        }
    }
    s_blocks.check();
}

static void refused(const char* name, int way, bool halfway) {
    check::begin_case(name);
    s_blocks.make(1u << 20, 1);
    char* const large = static_cast<char*>(malloc(6u << 20));
    REQUIRE(large != nullptr);
    check::fill(large, 6u << 20, 2);
    // A page in the middle that the program has protected is a range of its own: what lies before
    // it is made private first, and what lies behind it finds no room any more.
    const uintptr_t middle = (reinterpret_cast<uintptr_t>(large) + (3u << 20)) & ~uintptr_t{4095};
    void* const page = reinterpret_cast<void*>(middle);
    REQUIRE(mprotect(page, 4096, PROT_READ) == 0);
    for (int again = 0; again < 3; ++again) {
        const long before = shared_below(middle);
        CHECK(before > 0 || again > 0, "%ld", before);
        limit_data(halfway ? before : 0);
        errno = 0;
        const pid_t pid = fork_by(way);
        const int error = errno;
        lift_limit();
        if (pid == 0) _exit(98);
        CHECK(pid == -1 && error == ENOMEM, "gave %d, errno %d", static_cast<int>(pid), error);
        // In a context the heap's metadata comes first, and takes some of the room.
        const long after = shared_below(middle);
        CHECK(halfway ? again < 2 || after == 0 : after == before, "%ld of %ld", after, before);
        CHECK(waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD, "a child is left");
        CHECK_PATTERN(large, 6u << 20, 2);
        use_the_heap();
    }
    CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
    // Later ones work, and each has its own heap.
    for (int again = 0; again < 3; ++again) {
        CHECK_CHILD(check::run_in_child([large] {
            s_blocks.check();
            CHECK_PATTERN(large, 6u << 20, 2);
            s_blocks.repaint(7);
            check::fill(large, 6u << 20, 3);
            use_the_heap();
        }));
        CHECK_PATTERN(large, 6u << 20, 2);
        use_the_heap();
    }
    free(large);
    s_blocks.free_all();
}

int main(int argc, char** argv) {
    check::begin();
    REQUIRE(check::pool_path() != nullptr, "pool and joined mode only");
    REQUIRE(argc == 3);
    static constexpr const char* k_ways[] = {"fork", "_Fork", "clone"};
    for (int way = 0; way < 3; ++way)
        if (strcmp(argv[1], k_ways[way]) == 0) refused(argv[2], way, strcmp(argv[2], "late") == 0);
    return check::result();
}
