// What the heap has reserved and does not use gets no memory by somebody's looking at all of it:
// mlockall, a reader of all that is readable, a core dump (gcore). Run by CTest through run.sh in
// all modes. Crash rule: check.hpp.
#include <pthread.h>

#include "tests/conformance/check.hpp"

namespace {

/// What may become present beside what was: the rest of a chunk, and of a thread's AEP stack, and
/// some metadata.
constexpr long SLACK = (4 << 20) + (2 << 20);

/// Memory that the heap's own ranges have in this process, and how many of their mappings a core
/// dump would read although nobody may.
struct Present {
    long bytes = 0;
    int dumped = 0;
    char first_dumped[120] = {};
};

bool is_heaps(unsigned long begin) {
    const auto within = [begin](unsigned long from, unsigned long to) {
        return begin >= from && begin < to;
    };
    return within(0x9'0000'0000, 0x10'0000'0000) || within(0x1200'0000'0000, 0x4080'0000'0000);
}

/// Reads /proc/self/smaps without allocating.
template <class F>
void for_each_line(const char* path, F f) {
    static char buffer[1 << 16];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    size_t have = 0;
    for (ssize_t got; (got = read(fd, buffer + have, sizeof buffer - have)) > 0;) {
        have += static_cast<size_t>(got);
        size_t at = 0;
        while (void* end = memchr(buffer + at, '\n', have - at)) {
            *static_cast<char*>(end) = 0;
            f(buffer + at);
            at = static_cast<size_t>(static_cast<char*>(end) - buffer) + 1;
        }
        memmove(buffer, buffer + at, have - at);
        have -= at;
    }
    close(fd);
}

/// Memory that the file has there, whoever has mapped it.
long in_file(unsigned long begin, unsigned long end) {
    static unsigned char there[1 << 16];
    long pages = 0;
    while (begin < end) {
        const size_t most = sizeof there * 4096;
        const size_t bytes = end - begin < most ? end - begin : most;
        REQUIRE(mincore(reinterpret_cast<void*>(begin), bytes, there) == 0);
        for (size_t i = 0; i < bytes / 4096; ++i) pages += there[i] & 1;
        begin += bytes;
    }
    return pages * 4096;
}

Present present() {
    Present p;
    bool ours = false;
    bool closed_file = false;
    char head[120] = {};
    for_each_line("/proc/self/smaps", [&](const char* line) {
        unsigned long begin, end, inode;
        char rights[5];
        if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &begin, &end, rights, &inode) == 4) {
            ours = is_heaps(begin);
            closed_file = rights[0] == '-' && inode != 0 && end - begin > 4096;
            if (ours && rights[3] == 's') p.bytes += in_file(begin, end);
            snprintf(head, sizeof head, "%s", line);
        } else if (ours && strncmp(line, "Anonymous:", 10) == 0) {
            p.bytes += atol(line + 10) * 1024;
        } else if (ours && closed_file && strncmp(line, "VmFlags:", 8) == 0 &&
                   strstr(line, " dd") == nullptr) {
            if (p.dumped++ == 0) memcpy(p.first_dumped, head, sizeof head);
        }
    });
    return p;
}

void check_growth(const char* what, long before) {
    const Present now = present();
    CHECK(now.bytes <= before + SLACK, "%s: %ld KiB, before %ld KiB", what, now.bytes / 1024,
          before / 1024);
}

void read_all_readable() {
    const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    REQUIRE(memory >= 0);
    static char page[4096];
    for_each_line("/proc/self/maps", [&](const char* line) {
        unsigned long begin, end;
        char rights[5];
        if (sscanf(line, "%lx-%lx %4s", &begin, &end, rights) != 3) return;
        if (rights[0] != 'r' || !is_heaps(begin)) return;
        for (; begin < end; begin += sizeof page)
            if (pread(memory, page, sizeof page, static_cast<off_t>(begin)) < 0) return;
    });
    close(memory);
}

void check_dumps(const char* when) {
    const Present now = present();
    CHECK(now.dumped == 0, "%s: %d mappings without access, the first %s", when, now.dumped,
          now.first_dumped);
}

void* allocate(void*) {
    for (int i = 0; i < 100; ++i) free(check::opaque(malloc(check::opaque(100))));
    return nullptr;
}

/// An ordinary user with that much to lock.
void become_ordinary(rlim_t lockable) {
    const struct rlimit limit = {lockable, lockable};
    REQUIRE(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    if (geteuid() == 0) REQUIRE(setresuid(65534, 65534, 65534) == 0);
}

/// Last: what is locked then stays present. Addresses of a heap that begins when all is locked already count against the
/// limit, so it may have none.
void lock_all() {
    const long before = present().bytes;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        return check::cannot_run("mlockall", "needs a limit of locked memory above the addresses");
    if (!check::reading_costs_memory()) check_growth("locked", before);
    errno = 0;
    void* p = malloc(3 << 20);
    if (p == nullptr) {
        struct rlimit limit;
        REQUIRE(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
        CHECK(errno == ENOMEM && limit.rlim_cur != RLIM_INFINITY);
        return;
    }
    memset(p, 1, 3 << 20);
    free(p);
}

}  // namespace

int main(int argc, char**) {
    check::begin();
    if (argc > 1) {
        check::begin_case("mlockall at first");
        lock_all();
        return check::result();
    }
    void* kept = malloc(100);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, nullptr, allocate, nullptr) == 0);
    pthread_join(thread, nullptr);

    check::begin_case("a dump");
    check_dumps("at first");
    CHECK_CHILD(check::run_in_child([] {
        check_dumps("in a child");
        free(check::opaque(malloc(8 << 20)));
        check_dumps("in a child with chunks of its own");
    }));
    check_dumps("after a fork");

    check::begin_case("a reader");
    const long before = present().bytes;
    read_all_readable();
    check_growth("read", before);

    check::begin_case("a limit of locked memory");
    CHECK_CHILD(check::run_in_child([] {
        become_ordinary(64 << 10);
        CHECK(mlockall(MCL_CURRENT) != 0 && (errno == ENOMEM || errno == EPERM));
        void* p = malloc(1000);
        CHECK(p != nullptr);
        free(p);
        // From here on no fresh mapping can be had: malloc says so, and nothing worse.
        if (mlockall(MCL_FUTURE) == 0) {
            errno = 0;
            void* big = malloc(64 << 20);
            CHECK(big != nullptr || errno == ENOMEM);
            free(big);
            REQUIRE(munlockall() == 0);
        }
        void* big = malloc(64 << 20);
        CHECK(big != nullptr);
        free(big);
    }));

    check::begin_case("mlockall");
    free(kept);
    lock_all();
    REQUIRE(check::failures == 0);
    execl("/proc/self/exe", "not_in_use", "locked", nullptr);
    REQUIRE(false, "exec failed");
}
