// Freed memory goes back: after a peak of about 300 MiB is freed, and with a little activity
// afterwards, the footprint (anonymous memory and the pool file's blocks) falls below a quarter of
// the peak; so does what large blocks lose that shrink. Small, medium, large and huge blocks, and
// blocks of threads that ended. Run by CTest through run.sh in both modes with AEP_DECAY_MS=50.
// Crash rule: check.hpp.
#include <malloc.h>
#include <pthread.h>

#include "tests/conformance/check.hpp"

static constexpr size_t k_peak = 120u << 20;
static void* s_blocks[1 << 20];

static size_t allocate(size_t size, size_t bytes) {
    size_t n = 0;
    for (size_t sum = 0; sum < bytes && n < sizeof s_blocks / sizeof s_blocks[0]; sum += size) {
        void* p = malloc(size);
        REQUIRE(p != nullptr, "size %zu after %zu bytes", size, sum);
        memset(p, 0x11, size);
        s_blocks[n++] = p;
    }
    return n;
}

/// `kept`: percent of the peak that may stay.
static void expect_return(long before, long peak, long kept = 25) {
    CHECK(peak - before > static_cast<long>(k_peak / 4 * 3),
          "peak %ld, before %ld: nothing to give back", peak, before);
    const int64_t deadline = check::now_ms() + 20000;
    long now = 0;
    for (unsigned round = 0;; ++round) {
        // The little that a program does meanwhile: the heap has no thread of its own.
        static void* some[300];
        for (unsigned i = 0; i < 300; ++i) some[i] = malloc((round * 31 + i * 17) % 3000);
        for (void* p : some) free(p);
        void* large = malloc(500000);
        memset(large, 1, 500000);
        free(large);
        now = check::heap_footprint();
        if ((now - before) * 100 < (peak - before) * kept || check::now_ms() > deadline) break;
        const struct timespec pause = {0, 2000000};  // the poll's pace only
        nanosleep(&pause, nullptr);
    }
    CHECK((now - before) * 100 < (peak - before) * kept,
          "footprint %ld before, %ld at the peak, still %ld", before, peak, now);
}

static void from_this_thread(const char* name, size_t size) {
    check::begin_case(name);
    malloc_trim(0);
    const long before = check::heap_footprint();
    const size_t n = allocate(size, k_peak);
    const long peak = check::heap_footprint();
    for (size_t i = 0; i < n; ++i) free(s_blocks[i]);
    expect_return(before, peak);
}

/// Blocks that become somewhat smaller stay where they are, and their ends go back.
static void shrinking(const char* name, size_t size) {
    check::begin_case(name);
    malloc_trim(0);
    const long before = check::heap_footprint();
    const size_t n = allocate(size, k_peak);
    const long peak = check::heap_footprint();
    for (size_t i = 0; i < n; ++i) {
        void* p = realloc(s_blocks[i], size / 100 * 55);
        CHECK(p == s_blocks[i]);
        CHECK(malloc_usable_size(p) < size / 100 * 60, "%zu bytes", malloc_usable_size(p));
        s_blocks[i] = p;
    }
    expect_return(before, peak, 60);
    for (size_t i = 0; i < n; ++i) free(s_blocks[i]);
    malloc_trim(0);
}

static size_t s_count;
static void* allocating_thread(void*) {
    s_count = allocate(3000, k_peak);
    return nullptr;
}

int main() {
    check::begin();
    void* kept = malloc(1000);
    from_this_thread("small blocks", 320);
    from_this_thread("medium blocks", 9000);
    from_this_thread("large blocks", 500000);
    from_this_thread("huge blocks", 20u << 20);
    shrinking("large blocks that shrink", 3u << 20);
    shrinking("huge blocks that shrink", 20u << 20);
    check::begin_case("blocks of a thread that ended");
    malloc_trim(0);  // what the case before still keeps must not hide this one's peak
    const long before = check::heap_footprint();
    pthread_t thread;
    REQUIRE(pthread_create(&thread, nullptr, allocating_thread, nullptr) == 0);
    REQUIRE(pthread_join(thread, nullptr) == 0);
    const long peak = check::heap_footprint();
    for (size_t i = 0; i < s_count; ++i) free(s_blocks[i]);
    expect_return(before, peak);
    check::begin_case("malloc_trim gives back at once");
    const long before_trim = check::heap_footprint();
    const size_t n = allocate(50000, k_peak);
    const long peak_trim = check::heap_footprint();
    for (size_t i = 0; i < n; ++i) free(s_blocks[i]);
    malloc_trim(0);
    const long trimmed = check::heap_footprint();
    CHECK((trimmed - before_trim) * 4 < peak_trim - before_trim,
          "%ld before, %ld at the peak, %ld after malloc_trim", before_trim, peak_trim, trimmed);
    free(kept);
    return check::result();
}
