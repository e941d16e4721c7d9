// Alignment: 16 for every size, any power of two up to 1 GiB on request; over-aligned blocks keep
// usable_size, contents and neighbours, and go through realloc and free. Run by CTest through
// run.sh in both modes. Crash rule: check.hpp.
#include <malloc.h>

#include "tests/conformance/check.hpp"

static void natural() {
    check::begin_case("16 bytes for every size");
    for (size_t size = 0; size <= 40000; size += size < 2100 ? 1 : 37) {
        void* a = malloc(size);
        void* b = malloc(size);
        CHECK(a != nullptr && reinterpret_cast<uintptr_t>(a) % 16 == 0, "malloc(%zu) = %p", size,
              a);
        CHECK(b != nullptr && reinterpret_cast<uintptr_t>(b) % 16 == 0, "malloc(%zu) = %p", size,
              b);
        b = realloc(b, size * 2 + 1);
        CHECK(b != nullptr && reinterpret_cast<uintptr_t>(b) % 16 == 0, "realloc to %zu = %p",
              size * 2 + 1, b);
        void* c = calloc(1, size);
        CHECK(c != nullptr && reinterpret_cast<uintptr_t>(c) % 16 == 0, "calloc(1, %zu) = %p", size,
              c);
        free(a);
        free(b);
        free(c);
    }
}

static void over_aligned() {
    static constexpr size_t sizes[] = {0,    1,     16,    48,    100,    1000,     4096,
                                       6000, 32768, 33000, 65536, 100000, 1u << 20, 5u << 20};
    for (size_t alignment = 16; alignment <= (4u << 20); alignment *= 2) {
        check::begin_case("over-aligned, several live");
        for (const size_t size : sizes) {
            void* blocks[4];
            size_t usable[4];
            for (int i = 0; i < 4; ++i) {
                blocks[i] = memalign(alignment, size);
                REQUIRE(blocks[i] != nullptr, "memalign(%zu, %zu)", alignment, size);
                CHECK(reinterpret_cast<uintptr_t>(blocks[i]) % alignment == 0,
                      "memalign(%zu, %zu) = %p", alignment, size, blocks[i]);
                usable[i] = malloc_usable_size(blocks[i]);
                CHECK(usable[i] >= size, "memalign(%zu, %zu) usable %zu", alignment, size,
                      usable[i]);
                // Both ends are enough to find overlaps; a full pass over 5 MiB blocks would only
                // cost time.
                const size_t part = usable[i] < 8192 ? usable[i] : 4096;
                check::fill(blocks[i], part, i);
                check::fill(static_cast<char*>(blocks[i]) + usable[i] - part, part, i + 10);
                if (part == usable[i]) check::fill(blocks[i], part, i);
            }
            for (int i = 0; i < 4; ++i) {
                const size_t part = usable[i] < 8192 ? usable[i] : 4096;
                CHECK_PATTERN(blocks[i], part, i);
                if (part != usable[i])
                    CHECK_PATTERN(static_cast<char*>(blocks[i]) + usable[i] - part, part, i + 10);
                free(blocks[i]);
            }
        }
    }
}

static void realloc_aligned() {
    check::begin_case("realloc of over-aligned blocks");
    for (size_t alignment = 32; alignment <= (1u << 20); alignment *= 4) {
        for (const size_t size :
             {size_t{10}, size_t{700}, size_t{5000}, size_t{50000}, size_t{600000}}) {
            void* p = memalign(alignment, size);
            REQUIRE(p != nullptr);
            check::fill(p, size, alignment);
            p = realloc(p, size * 3);
            REQUIRE(p != nullptr);
            CHECK_PATTERN(p, size, alignment);
            CHECK(malloc_usable_size(p) >= size * 3);
            p = realloc(p, size / 3 + 1);
            REQUIRE(p != nullptr);
            CHECK_PATTERN(p, size / 3 + 1, alignment);
            free(p);
        }
    }
}

static void extreme() {
    check::begin_case("1 GiB alignment");
    for (size_t alignment = 8u << 20; alignment <= (1u << 30); alignment *= 2) {
        char* p = static_cast<char*>(aligned_alloc(alignment, 3 * 4096));
        CHECK(p != nullptr && reinterpret_cast<uintptr_t>(p) % alignment == 0, "alignment %zu: %p",
              alignment, p);
        if (p == nullptr) continue;
        check::fill(p, 3 * 4096, 1);
        CHECK_PATTERN(p, 3 * 4096, 1);
        free(p);
    }
}

static void bounded() {
    check::begin_case("over-aligned blocks are reused");
    const long before = check::heap_footprint();
    for (int round = 0; round < 200; ++round) {
        for (size_t alignment = 64; alignment <= (2u << 20); alignment *= 2) {
            char* p = static_cast<char*>(memalign(alignment, alignment));
            REQUIRE(p != nullptr);
            p[0] = 1;
            p[alignment - 1] = 1;
            free(p);
        }
    }
    CHECK(check::heap_footprint() - before < (64 << 20), "grew by %ld",
          check::heap_footprint() - before);
}

int main() {
    check::begin();
    natural();
    over_aligned();
    realloc_aligned();
    extreme();
    bounded();
    return check::result();
}
