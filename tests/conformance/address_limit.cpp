// RLIMIT_AS: allocation fails with ENOMEM when the limit is reached, live blocks stay intact, and
// after freeing it works again; also for threads that start under the limit. Run by CTest through
// run.sh in both modes. Crash rule: check.hpp.
#include <malloc.h>
#include <pthread.h>

#include "tests/conformance/check.hpp"

/// Lets the process map this much more address space than it has now.
static void limit_to(size_t more) {
    const long now = check::status_bytes("VmSize:");
    REQUIRE(now > 0);
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = static_cast<rlim_t>(now) + more;
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
}

static constexpr size_t k_max_blocks = 1 << 20;
static constexpr size_t k_give_up = size_t{1} << 30;
static void* s_blocks[k_max_blocks];

static size_t allocate_until_failure(size_t size) {
    size_t n = 0;
    while (n < k_max_blocks && n * size < k_give_up) {
        errno = 0;
        void* p = malloc(size);
        if (p == nullptr) {
            CHECK(errno == ENOMEM, "size %zu", size);
            break;
        }
        check::fill(p, size < 64 ? size : 64, n);
        s_blocks[n++] = p;
    }
    return n;
}

static void exhaust_and_recover(size_t size, size_t least) {
    const size_t first = allocate_until_failure(size);
    CHECK(first < k_max_blocks && first * size < k_give_up, "size %zu never failed", size);
    CHECK(first * size >= least, "only %zu blocks of %zu", first, size);
    for (size_t i = 0; i < first; ++i) CHECK_PATTERN(s_blocks[i], size < 64 ? size : 64, i);
    for (size_t i = 0; i < first; i += 2) free(s_blocks[i]);
    for (size_t i = 1; i < first; i += 2) CHECK_PATTERN(s_blocks[i], size < 64 ? size : 64, i);
    size_t again = 0;
    for (size_t i = 0; i < first; i += 2) {
        s_blocks[i] = malloc(size);
        if (s_blocks[i] != nullptr) ++again;
    }
    CHECK(again * 2 >= first * 9 / 10, "size %zu: %zu of %zu blocks came back", size, again,
          (first + 1) / 2);
    for (size_t i = 0; i < first; ++i) free(s_blocks[i]);
    const size_t second = allocate_until_failure(size);
    CHECK(second * 10 >= first * 9, "size %zu: %zu blocks, then %zu", size, first, second);
    for (size_t i = 0; i < second; ++i) free(s_blocks[i]);
}

static void* thread_under_limit(void*) {
    void* p = malloc(64);
    if (p != nullptr) memset(p, 1, 64);
    free(p);
    return nullptr;
}

/// A process that started with little address space: it works, and fails only when that is used up.
static int started_under_limit() {
    check::begin_case("started under the limit");
    exhaust_and_recover(5000, 64u << 20);
    return check::result();
}

int main(int argc, char**) {
    check::begin();
    if (argc > 1) return started_under_limit();
    for (const size_t size :
         {size_t{200}, size_t{5000}, size_t{50000}, size_t{1000000}, size_t{6000000}}) {
        check::begin_case("exhaust and recover");
        // Each size in a process of its own: what one leaves mapped must not shrink the next one's
        // room. In pool mode the whole pool may be mapped from the start; then the limit on top of
        // it leaves the pool itself as the room.
        CHECK_CHILD(check::run_in_child([size] {
            limit_to(96u << 20);
            exhaust_and_recover(size, 32u << 20);
        }));
    }
    check::begin_case("no room at all");
    CHECK_CHILD(check::run_in_child([] {
        void* p = malloc(100);
        limit_to(0);
        errno = 0;
        void* big = malloc(size_t{3} << 30);
        CHECK(big == nullptr && errno == ENOMEM);
        free(p);
    }));
    check::begin_case("threads under the limit");
    CHECK_CHILD(check::run_in_child([] {
        limit_to(64u << 20);
        for (int i = 0; i < 20; ++i) {
            pthread_attr_t attributes;
            pthread_attr_init(&attributes);
            pthread_attr_setstacksize(&attributes, 256 << 10);
            pthread_t thread;
            REQUIRE(pthread_create(&thread, &attributes, thread_under_limit, nullptr) == 0);
            REQUIRE(pthread_join(thread, nullptr) == 0);
            pthread_attr_destroy(&attributes);
        }
    }));
    check::begin_case("start under the limit");
    CHECK_CHILD(check::run_in_child([] {
        const struct rlimit limit = {320u << 20, 320u << 20};
        REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
        execl("/proc/self/exe", "address_limit", "started", nullptr);
        REQUIRE(false, "exec failed");
    }));
    return check::result();
}
