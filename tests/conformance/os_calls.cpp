// System calls that programs make on heap memory: mprotect holds across fork in parent and child,
// MADV_DONTFORK is obeyed, mlockall locks what is used and not the whole pool, memory locked or
// advised is freed and reused as any other. Run by CTest through run.sh in both modes. Crash rule:
// check.hpp.
#include <malloc.h>
#include <sys/mman.h>

#include "tests/conformance/population.hpp"

static constexpr size_t k_page = 4096;

/// Whether a write to p ends a process with SIGSEGV; tried in a child that shares the memory.
static bool write_faults(char* p) {
    const pid_t pid = vfork();
    if (pid == 0) {
        *static_cast<volatile char*>(p) = 9;
        _exit(0);
    }
    const int status = check::wait_status(pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void protection() {
    check::begin_case("mprotect holds across fork");
    auto* p = static_cast<char*>(memalign(k_page, 5 * k_page));
    REQUIRE(p != nullptr);
    check::fill(p, 5 * k_page, 1);
    REQUIRE(mprotect(p + k_page, k_page, PROT_READ) == 0);
    CHECK(write_faults(p + k_page));
    CHECK_CHILD(check::run_in_child([p] {
        CHECK_PATTERN(p, 5 * k_page, 1);
        CHECK(write_faults(p + k_page), "the child can write a page that is protected");
    }));
    CHECK(write_faults(p + k_page),
          "after a fork the parent can write a page that it has protected");
    CHECK_PATTERN(p, 5 * k_page, 1);
    REQUIRE(mprotect(p + k_page, k_page, PROT_READ | PROT_WRITE) == 0);
    check::fill(p, 5 * k_page, 2);
    free(p);
}

static void advice() {
    check::begin_case("MADV_DONTFORK is obeyed");
    auto* p = static_cast<char*>(memalign(k_page, 2 * k_page));
    REQUIRE(p != nullptr);
    check::fill(p, 2 * k_page, 3);
    REQUIRE(madvise(p, k_page, MADV_DONTFORK) == 0);
    const int status =
        check::run_in_child([p] { _exit(*static_cast<volatile char*>(p) == 0 ? 3 : 4); });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV,
          "the child has the page: wait status 0x%x", status);
    REQUIRE(madvise(p, k_page, MADV_DOFORK) == 0);
    CHECK_PATTERN(p, 2 * k_page, 3);
    free(p);
}

static void locking() {
    check::begin_case("mlockall locks what is used");
    static check::Population<300> all;
    CHECK_CHILD(check::run_in_child([] {
        all.make(300000, 1);
        const long before = check::heap_footprint();
        const int result = mlockall(MCL_CURRENT | MCL_FUTURE);
        if (result != 0 && geteuid() != 0) {
            check::cannot_run("mlockall", "needs the right to lock memory (ulimit -l)");
            return;
        }
        REQUIRE(result == 0);
        const long locked = check::heap_footprint();
        if (check::reading_costs_memory())
            check::cannot_run("what-mlockall-costs", "this kernel shares no page of zeros");
        else
            CHECK(locked - before < (64 << 20), "footprint %ld before mlockall, %ld after", before,
                  locked);
        all.renew();
        all.check();
        all.free_all();
        all.make(2u << 20, 2);
        all.check();
        CHECK_CHILD(check::run_in_child([] { all.check(); }));
        all.free_all();
    }));
}

int main() {
    check::begin();
    protection();
    advice();
    locking();
    return check::result();
}
