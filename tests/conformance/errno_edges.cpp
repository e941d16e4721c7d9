// errno and edge semantics of each entry point: zero sizes, overflow, impossible sizes and
// alignments, and that failure changes nothing. Run by CTest through run.sh in both modes. Crash
// rule: check.hpp.
#include <malloc.h>

#include "tests/conformance/check.hpp"

static const size_t k_max = check::opaque<size_t>(SIZE_MAX);
static const size_t k_too_big = check::opaque<size_t>(static_cast<size_t>(PTRDIFF_MAX) + 1);

/// The call gives null and ENOMEM.
#define CHECK_ENOMEM(call)                                                         \
    do {                                                                           \
        errno = 0;                                                                 \
        void* p_ = check::opaque(static_cast<void*>(call));                        \
        const int error_ = errno;                                                  \
        CHECK(p_ == nullptr && error_ == ENOMEM, "gave %p, errno %d", p_, error_); \
    } while (0)

static void zero_sizes() {
    check::begin_case("zero sizes give unique blocks");
    constexpr int count = 1000;
    static void* blocks[count * 6];
    int n = 0;
    for (int i = 0; i < count; ++i) {
        blocks[n++] = malloc(0);
        blocks[n++] = calloc(0, 8);
        blocks[n++] = calloc(8, 0);
        blocks[n++] = realloc(nullptr, 0);
        blocks[n++] = memalign(64, 0);
        void* p = nullptr;
        CHECK(posix_memalign(&p, 64, 0) == 0);
        blocks[n++] = p;
    }
    for (int i = 0; i < n; ++i) {
        REQUIRE(blocks[i] != nullptr, "kind %d", i % 6);
        *static_cast<uintptr_t**>(static_cast<void*>(&blocks[i])) =
            static_cast<uintptr_t*>(blocks[i]);
    }
    qsort(blocks, static_cast<size_t>(n), sizeof blocks[0], [](const void* a, const void* b) {
        const auto x = *static_cast<const uintptr_t*>(a);
        const auto y = *static_cast<const uintptr_t*>(b);
        return x < y ? -1 : x > y;
    });
    for (int i = 1; i < n; ++i) CHECK(blocks[i] != blocks[i - 1], "%p given twice", blocks[i]);
    for (int i = 0; i < n; ++i) free(blocks[i]);
}

static void impossible_sizes() {
    check::begin_case("impossible sizes");
    for (const size_t size : {k_too_big, k_too_big + 4096, k_max, k_max - 8, k_max - 16,
                              k_max - 4096, k_max - (4u << 20)}) {
        CHECK_ENOMEM(malloc(size));
        CHECK_ENOMEM(calloc(1, size));
        CHECK_ENOMEM(calloc(size, 1));
        CHECK_ENOMEM(realloc(nullptr, size));
        CHECK_ENOMEM(reallocarray(nullptr, size, 1));
        CHECK_ENOMEM(aligned_alloc(64, size));
        CHECK_ENOMEM(aligned_alloc(16, size));
        CHECK_ENOMEM(memalign(4096, size));
        CHECK_ENOMEM(valloc(size));
        CHECK_ENOMEM(pvalloc(size));
    }
    // Legal by type but beyond any address space.
    const size_t half = check::opaque<size_t>(static_cast<size_t>(PTRDIFF_MAX));
    for (const size_t size : {half, half - 4096, half / 2, static_cast<size_t>(1) << 50}) {
        CHECK_ENOMEM(malloc(size));
        CHECK_ENOMEM(memalign(1u << 20, size));
        CHECK_ENOMEM(calloc(size / 8, 8));
    }
}

static void overflow() {
    check::begin_case("products that overflow");
    const size_t root = check::opaque<size_t>(static_cast<size_t>(1) << 32);
    CHECK_ENOMEM(calloc(root, root));
    CHECK_ENOMEM(calloc(k_max, 2));
    CHECK_ENOMEM(calloc(2, k_max));
    CHECK_ENOMEM(calloc(root + 1, root));
    CHECK_ENOMEM(calloc(k_max / 16 + 2, 16));
    CHECK_ENOMEM(reallocarray(nullptr, root, root));
    CHECK_ENOMEM(reallocarray(nullptr, k_max, 2));
    char* p = static_cast<char*>(malloc(100));
    REQUIRE(p != nullptr);
    check::fill(p, 100, 3);
    CHECK_ENOMEM(reallocarray(p, root, root));
    CHECK_ENOMEM(reallocarray(p, k_max / 8 + 1, 8));
    CHECK_PATTERN(p, 100, 3);
    free(p);
}

static void alignments() {
    check::begin_case("posix_memalign refuses bad alignments");
    for (const size_t alignment :
         {size_t{0}, size_t{1}, size_t{2}, size_t{4}, size_t{3}, size_t{24}, size_t{100}, k_max}) {
        void* p = &p;
        errno = 77;
        const int result = posix_memalign(&p, check::opaque(alignment), 64);
        CHECK(result == EINVAL, "alignment %zu: %d", alignment, result);
        CHECK(p == &p, "the pointer was changed");
        CHECK(errno == 77, "errno was changed");
    }
    check::begin_case("posix_memalign without memory");
    void* p = &p;
    errno = 77;
    CHECK(posix_memalign(&p, 64, k_too_big) == ENOMEM);
    CHECK(p == &p, "the pointer was changed");
    CHECK(posix_memalign(&p, static_cast<size_t>(1) << 62, 64) == ENOMEM);
    CHECK(p == &p, "the pointer was changed");
    CHECK(errno == 77, "errno was changed");
    check::begin_case("posix_memalign success keeps errno");
    CHECK(posix_memalign(&p, 8, 64) == 0);
    CHECK(errno == 77);
    free(p);
    check::begin_case("aligned_alloc refuses what is no power of two");
    for (const size_t alignment : {size_t{0}, size_t{3}, size_t{24}, size_t{100}, k_max}) {
        errno = 0;
        p = aligned_alloc(check::opaque(alignment), 96);
        CHECK(p == nullptr && errno == EINVAL, "alignment %zu: %p", alignment, p);
        free(p);
    }
    check::begin_case("memalign rounds a bad alignment up, as glibc does");
    for (const size_t alignment : {size_t{0}, size_t{1}, size_t{3}, size_t{24}, size_t{100}}) {
        p = memalign(check::opaque(alignment), 96);
        size_t up = 16;
        while (up < alignment) up *= 2;
        CHECK(p != nullptr && reinterpret_cast<uintptr_t>(p) % up == 0, "alignment %zu: %p",
              alignment, p);
        free(p);
    }
}

static void realloc_edges() {
    check::begin_case("realloc(p, 0) frees and gives null");
    const long before = check::heap_footprint();
    for (int i = 0; i < 2000; ++i) {
        char* p = static_cast<char*>(malloc(100000));
        REQUIRE(p != nullptr);
        memset(p, 1, 100000);
        errno = 77;
        CHECK(realloc(p, check::opaque<size_t>(0)) == nullptr);
        CHECK(errno == 77);
    }
    CHECK(check::heap_footprint() - before < (64 << 20), "leaks %ld bytes",
          check::heap_footprint() - before);
    check::begin_case("reallocarray(p, 0, n) frees and gives null");
    CHECK(reallocarray(malloc(100), check::opaque<size_t>(0), 8) == nullptr);
    CHECK(reallocarray(malloc(100), 8, check::opaque<size_t>(0)) == nullptr);
    check::begin_case("a failed realloc leaves the block");
    for (const size_t size :
         {size_t{1}, size_t{100}, size_t{5000}, size_t{40000}, size_t{3000000}, size_t{9000000}}) {
        void* p = malloc(size);
        REQUIRE(p != nullptr);
        check::fill(p, size, size);
        CHECK_ENOMEM(realloc(p, k_too_big));
        CHECK_ENOMEM(realloc(p, k_max));
        CHECK_ENOMEM(realloc(p, static_cast<size_t>(1) << 50));
        CHECK_PATTERN(p, size, size);
        free(p);
    }
}

static void free_keeps_errno() {
    check::begin_case("free keeps errno");
    for (size_t size = 1; size <= (128u << 20); size = size * 3 + 1) {
        void* p = malloc(size);
        REQUIRE(p != nullptr);
        errno = 1234;
        free(p);
        CHECK(errno == 1234, "size %zu", size);
    }
    errno = 1234;
    free(nullptr);
    CHECK(errno == 1234);
    check::begin_case("success keeps errno");
    for (size_t size = 1; size <= (64u << 20); size = size * 3 + 1) {
        errno = 1234;
        void* p = malloc(size);
        CHECK(errno == 1234, "malloc(%zu)", size);
        p = realloc(p, size * 2);
        CHECK(errno == 1234, "realloc to %zu", size * 2);
        free(p);
        p = calloc(1, size);
        CHECK(errno == 1234, "calloc(1, %zu)", size);
        free(p);
    }
}

int main() {
    check::begin();
    zero_sizes();
    impossible_sizes();
    overflow();
    alignments();
    realloc_edges();
    free_keeps_errno();
    return check::result();
}
