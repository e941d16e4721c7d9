// The file system under the pool file is full before the pool is: a tmpfs of 16 MiB of our own
// holds a pool of 64 MiB. ENOMEM and never SIGBUS; goes on after freeing; also when another file
// takes the room and gives it back. Needs root (a mount namespace of its own). Run by CTest
// through run.sh in pool mode. Crash rule: check.hpp; the mount is private and ends with the
// process.
#include <sched.h>
#include <sys/mount.h>

#include "tests/conformance/exhaust.hpp"

static constexpr size_t k_room = 16u << 20;

static void room_taken_by_others() {
    check::begin_case("another file takes the room");
    constexpr size_t size = 20000;
    // Joins the pool, and takes back what the processes before left in it.
    free(malloc(check::opaque<size_t>(size)));
    char path[300];
    snprintf(path, sizeof path, "%s.other", check::pool_path());
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(file >= 0);
    static char page[65536];
    while (write(file, page, sizeof page) > 0) {
    }
    const size_t n = check::fill_up(size, 4 * k_room);
    CHECK(n * size < k_room / 2, "%zu bytes from a full file system", n * size);
    REQUIRE(ftruncate(file, 0) == 0);
    void* p = malloc(6u << 20);
    CHECK(p != nullptr, "the room is back but malloc does not see it");
    if (p != nullptr) check::fill(p, 6u << 20, 3);
    for (size_t i = 0; i < n; ++i) {
        CHECK_PATTERN(check::blocks[i], size, i);
        free(check::blocks[i]);
    }
    free(p);
    close(file);
    unlink(path);
}

int main(int argc, char** argv) {
    check::begin();
    if (argc > 1) {
        check::begin_case(argv[1]);
        if (strcmp(argv[1], "threads") == 0)
            check::exhaust_in_threads(3000, k_room / 2);
        else if (strcmp(argv[1], "others") == 0)
            room_taken_by_others();
        else
            check::exhaust(static_cast<size_t>(atol(argv[1])), k_room / 2, 4 * k_room);
        return check::result();
    }
    check::begin_case("mount");
    CANNOT_RUN_UNLESS(unshare(CLONE_NEWNS) == 0, "a mount namespace of its own needs root");
    REQUIRE(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    const char* place = getenv("AEP_TEST_DIR");
    REQUIRE(mount("aep-test", place, "tmpfs", 0, "size=16m,mode=0700") == 0);
    char pool[300];
    snprintf(pool, sizeof pool, "%s/pool", place);
    setenv("AEP_POOL", pool, 1);
    setenv("AEP_POOL_SIZE", "64M", 1);
    for (const char* part : {"3000", "30000", "200000", "threads", "others", "100", "1000000"}) {
        check::begin_case(part);
        const pid_t pid = vfork();
        if (pid == 0) {
            execl("/proc/self/exe", "tmpfs_full", part, nullptr);
            _exit(127);
        }
        CHECK_CHILD(check::wait_status(pid));
    }
    return check::result();
}
