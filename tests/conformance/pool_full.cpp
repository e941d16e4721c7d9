// A small pool (32 MiB) filled up: ENOMEM and never SIGBUS, the live blocks intact, and after
// freeing it goes on; also with threads, with fork when it is full, and for the next process that
// opens it. Run by CTest through run.sh in pool mode with AEP_POOL_SIZE=32M. Crash rule: check.hpp.
#include "tests/conformance/exhaust.hpp"

static constexpr size_t k_pool = 32u << 20;
static constexpr size_t k_give_up = 2 * k_pool;

static void fork_when_full() {
    check::begin_case("fork when the pool is full");
    constexpr size_t size = 5000;
    const size_t n = check::fill_up(size, k_give_up);
    const int status = check::run_in_child([n] {
        for (size_t i = 0; i < n; ++i) CHECK_PATTERN(check::blocks[i], size, i);
        for (size_t i = 0; i < n; i += 2) free(check::blocks[i]);
        size_t again = 0;
        for (size_t i = 0; i < n; i += 2) {
            check::blocks[i] = malloc(size);
            if (check::blocks[i] == nullptr) continue;
            ++again;
            check::fill(check::blocks[i], size, i);
        }
        CHECK(again * 10 >= n / 2 * 9, "the child got %zu of %zu blocks back", again, n / 2);
        for (size_t i = 0; i < n; ++i)
            if (check::blocks[i] != nullptr) CHECK_PATTERN(check::blocks[i], size, i);
    });
    CHECK_CHILD(status);
    for (size_t i = 0; i < n; ++i) {
        CHECK_PATTERN(check::blocks[i], size, i);
        free(check::blocks[i]);
    }
}

int main(int argc, char** argv) {
    check::begin();
    REQUIRE(check::pool_path() != nullptr, "pool mode only");
    if (argc > 1) {
        check::begin_case(argv[1]);
        if (strcmp(argv[1], "threads") == 0) {
            for (int i = 0; i < 3; ++i) check::exhaust_in_threads(3000, k_pool / 4 * 3);
        } else if (strcmp(argv[1], "fork") == 0) {
            fork_when_full();
        } else {
            const auto size = static_cast<size_t>(atol(argv[1]));
            // Only one block of 3 MB fits into a chunk.
            check::exhaust(size, size > (2u << 20) ? k_pool / 2 : k_pool / 4 * 3, k_give_up);
        }
        return check::result();
    }
    // One process after the other on the same pool: what one leaves must not shrink it for the
    // next. This process has allocated next to nothing; its own chunks are part of the quarter that
    // may be missing.
    for (const char* part :
         {"100", "3000", "30000", "100000", "1000000", "threads", "fork", "100", "3000000"}) {
        check::begin_case(part);
        const pid_t pid = vfork();
        if (pid == 0) {
            execl("/proc/self/exe", "pool_full", part, nullptr);
            _exit(127);
        }
        CHECK_CHILD(check::wait_status(pid));
    }
    struct stat info;
    REQUIRE(stat(check::pool_path(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600, "pool file mode %o", info.st_mode & 0777);
    return check::result();
}
