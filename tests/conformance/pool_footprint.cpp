// Small programs take little of a pool, also where the mount would give huge pages at the first
// touch: a tmpfs of our own with huge=advise. One block of every size, by one thread and by many.
// Needs root (a mount namespace of its own). Run by CTest through run.sh in pool mode. Crash rule:
// check.hpp; the mount is private and ends with the process.
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "tests/conformance/check.hpp"

static size_t pool_bytes() {
    struct stat facts {};
    REQUIRE(stat(check::pool_path(), &facts) == 0);
    return static_cast<size_t>(facts.st_blocks) * 512;
}

/// Allocates one block of each size up to 16 KiB that the allocator tells apart; their bytes.
static size_t one_of_each() {
    size_t bytes = 0;
    for (size_t size = 16; size <= 16384; size += size < 128 ? 16 : size / 8) {
        void* p = malloc(check::opaque<size_t>(size));
        REQUIRE(p != nullptr);
        memset(p, 1, size);
        bytes += size < 4096 ? 4096 : size + 4096;  // and the rest of an OS page
    }
    return bytes;
}

static void one_thread() {
    check::begin_case("one thread");
    free(malloc(check::opaque<size_t>(16)));
    const size_t before = pool_bytes();
    const size_t expected = one_of_each();
    const size_t taken = pool_bytes() - before;
    CHECK(taken <= expected, "%zu bytes for %zu", taken, expected);
}

static void many_threads() {
    check::begin_case("many threads");
    constexpr size_t count = 16;
    static std::atomic<size_t> expected;
    static pthread_barrier_t all_done;
    REQUIRE(pthread_barrier_init(&all_done, nullptr, count + 1) == 0);
    const size_t before = pool_bytes();
    pthread_t threads[count];
    for (pthread_t& thread : threads) {
        REQUIRE(pthread_create(
                    &thread, nullptr,
                    [](void*) -> void* {
                        expected += one_of_each();
                        pthread_barrier_wait(&all_done);
                        return nullptr;
                    },
                    nullptr) == 0);
    }
    pthread_barrier_wait(&all_done);
    const size_t taken = pool_bytes() - before;
    // Thread-local storage, and room for the threads' first blocks of their own.
    CHECK(taken <= expected + expected / 4, "%zu bytes for %zu", taken, expected.load());
    for (const pthread_t thread : threads) REQUIRE(pthread_join(thread, nullptr) == 0);
}

int main(int argc, char**) {
    check::begin();
    if (argc > 1) {
        one_thread();
        many_threads();
        return check::result();
    }
    CANNOT_RUN_UNLESS(unshare(CLONE_NEWNS) == 0, "a mount namespace of its own needs root");
    REQUIRE(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    const char* place = getenv("AEP_TEST_DIR");
    REQUIRE(mount("aep-test", place, "tmpfs", 0, "huge=advise,size=64m,mode=0700") == 0);
    char pool[300];
    snprintf(pool, sizeof pool, "%s/pool", place);
    setenv("AEP_POOL", pool, 1);
    setenv("AEP_POOL_SIZE", "256M", 1);
    const pid_t pid = vfork();
    if (pid == 0) {
        execl("/proc/self/exe", "pool_footprint", "inside", nullptr);
        _exit(127);
    }
    CHECK_CHILD(check::wait_status(pid));
    return check::result();
}
