// realloc to smaller when there is no memory left at all: it gives back a block with the contents,
// the old one if need be, and never null. The pool is 32 MiB. Run by CTest through run.sh in pool
// and joined mode. Crash rule: check.hpp.
#include <malloc.h>

#include "tests/conformance/exhaust.hpp"

static constexpr size_t k_give_up = 64u << 20;

/// Fills up with blocks of that size, then with smaller and smaller ones: nothing can be had.
static size_t fill_up_wholly(size_t size) {
    size_t n = check::fill_up(size, k_give_up);
    for (size_t filler = size / 2; filler >= 16; filler /= 2)
        while (n < check::k_most_blocks && (check::blocks[n] = malloc(filler)) != nullptr) ++n;
    return n;
}

static void shrink(const char* name, size_t size) {
    check::begin_case(name);
    const size_t all = fill_up_wholly(size);
    size_t ours = 0;
    while (ours < all && malloc_usable_size(check::blocks[ours]) >= size) ++ours;
    REQUIRE(ours >= 4, "%zu blocks of %zu", ours, size);
    // Each to another part of what it was; the last ones to next to nothing.
    const size_t parts[] = {size - 1, size - size / 16, size / 2 + 1, size / 2,
                            size / 3, size / 10,        16,           1};
    for (size_t i = 0; i < ours; ++i) {
        void* const before = check::blocks[i];
        const size_t smaller = parts[i % 8] != 0 ? parts[i % 8] : 1;
        errno = 0;
        void* const p = realloc(before, smaller);
        CHECK(p != nullptr, "realloc from %zu to %zu: errno %d", size, smaller, errno);
        if (p == nullptr) continue;
        CHECK_PATTERN(p, smaller, i);
        CHECK(malloc_usable_size(p) >= smaller, "%zu usable of %zu", malloc_usable_size(p),
              smaller);
        check::fill(p, smaller, i);
        check::blocks[i] = p;
    }
    // What went back can be had; what stayed is whole.
    for (size_t i = 0; i < ours; ++i) {
        const size_t smaller = parts[i % 8] != 0 ? parts[i % 8] : 1;
        CHECK_PATTERN(check::blocks[i], smaller, i);
    }
    for (size_t i = 0; i < all; ++i) free(check::blocks[i]);
    void* const again = malloc(size);
    CHECK(again != nullptr);
    free(again);
}

int main() {
    check::begin();
    REQUIRE(check::pool_path() != nullptr, "pool and joined mode only");
    shrink("blocks on pages", 5000);
    shrink("blocks on pages of several slices", 100'000);
    shrink("large blocks", 1'000'000);
    shrink("large blocks over chunks", 5'000'000);
    return check::result();
}
