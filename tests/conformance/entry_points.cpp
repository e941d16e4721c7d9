// Each C entry point of malloc works and its block can go to every function that takes one (all
// share one heap). Run by CTest through run.sh in both modes. Crash rule: check.hpp.
#include <dlfcn.h>
#include <malloc.h>

#include "tests/conformance/check.hpp"

using Free = void (*)(void*);
using FreeSized = void (*)(void*, size_t);
using FreeAlignedSized = void (*)(void*, size_t, size_t);

static constexpr size_t k_sizes[] = {0,     1,     7,      8,       16,      17,     100,
                                     128,   1000,  1024,   4096,    5000,    32768,  32769,
                                     65536, 70000, 262144, 1048576, 4194304, 9000000};

static void check_block(void* p, size_t size, uint64_t seed) {
    REQUIRE(p != nullptr, "size %zu", size);
    CHECK(reinterpret_cast<uintptr_t>(p) % 16 == 0, "%p of size %zu", p, size);
    const size_t usable = malloc_usable_size(p);
    CHECK(usable >= size, "usable %zu of %zu", usable, size);
    check::fill(p, usable, seed);
    CHECK_PATTERN(p, usable, seed);
}

static void every_allocator(const char* freeing, void (*give_back)(void*, size_t)) {
    for (const size_t size : k_sizes) {
        check::begin_case(freeing);
        void* p = malloc(size);
        check_block(p, size, 1);
        give_back(p, size);
        p = calloc(size, 1);
        REQUIRE(p != nullptr);
        CHECK(check::all_zero(p, size), "calloc(%zu, 1)", size);
        check_block(p, size, 2);
        give_back(p, size);
        p = realloc(nullptr, size);
        check_block(p, size, 3);
        give_back(p, size);
        p = reallocarray(nullptr, size, 1);
        check_block(p, size, 4);
        give_back(p, size);
    }
}

static void aligned_allocators() {
    const size_t os_page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    for (const size_t size : k_sizes) {
        for (size_t alignment = 8; alignment <= 65536; alignment *= 4) {
            check::begin_case("memalign family");
            void* p = memalign(alignment, size);
            CHECK(reinterpret_cast<uintptr_t>(p) % alignment == 0, "memalign(%zu, %zu) = %p",
                  alignment, size, p);
            check_block(p, size, 5);
            free(p);
            p = aligned_alloc(alignment, size);
            CHECK(reinterpret_cast<uintptr_t>(p) % alignment == 0, "aligned_alloc(%zu, %zu) = %p",
                  alignment, size, p);
            check_block(p, size, 6);
            free(p);
            p = nullptr;
            CHECK(posix_memalign(&p, alignment, size) == 0);
            CHECK(reinterpret_cast<uintptr_t>(p) % alignment == 0, "posix_memalign(%zu, %zu) = %p",
                  alignment, size, p);
            check_block(p, size, 7);
            free(p);
        }
        check::begin_case("valloc and pvalloc");
        void* p = valloc(size);
        CHECK(reinterpret_cast<uintptr_t>(p) % os_page == 0, "valloc(%zu) = %p", size, p);
        check_block(p, size, 8);
        free(p);
        p = pvalloc(size);
        CHECK(reinterpret_cast<uintptr_t>(p) % os_page == 0, "pvalloc(%zu) = %p", size, p);
        check_block(p, (size + os_page - 1) / os_page * os_page, 9);
        free(p);
    }
}

static void realloc_takes_all() {
    check::begin_case("realloc of blocks from every allocator");
    for (const size_t size : k_sizes) {
        if (size == 0) continue;
        for (int kind = 0; kind < 6; ++kind) {
            void* p = kind == 0   ? malloc(size)
                      : kind == 1 ? calloc(1, size)
                      : kind == 2 ? memalign(256, size)
                      : kind == 3 ? aligned_alloc(4096, size)
                      : kind == 4 ? valloc(size)
                                  : pvalloc(size);
            REQUIRE(p != nullptr);
            check::fill(p, size, size + kind);
            p = realloc(p, size * 2);
            REQUIRE(p != nullptr);
            CHECK_PATTERN(p, size, size + kind);
            p = reallocarray(p, size, 3);
            REQUIRE(p != nullptr);
            CHECK_PATTERN(p, size, size + kind);
            p = realloc(p, size / 2 + 1);
            REQUIRE(p != nullptr);
            CHECK_PATTERN(p, size / 2 + 1, size + kind);
            free(p);
        }
    }
}

static Free s_cfree;
static FreeSized s_free_sized;
static FreeAlignedSized s_free_aligned_sized;

int main() {
    check::begin();
    s_cfree = reinterpret_cast<Free>(dlsym(RTLD_DEFAULT, "cfree"));
    s_free_sized = reinterpret_cast<FreeSized>(dlsym(RTLD_DEFAULT, "free_sized"));
    s_free_aligned_sized =
        reinterpret_cast<FreeAlignedSized>(dlsym(RTLD_DEFAULT, "free_aligned_sized"));
    every_allocator("free", [](void* p, size_t) { free(p); });
    check::begin_case("dlsym");
    CHECK(s_cfree != nullptr);
    CHECK(s_free_sized != nullptr);
    CHECK(s_free_aligned_sized != nullptr);
    if (s_cfree != nullptr) {
        every_allocator("cfree", [](void* p, size_t) { s_cfree(p); });
        s_cfree(nullptr);
    }
    if (s_free_sized != nullptr) {
        every_allocator("free_sized", [](void* p, size_t size) { s_free_sized(p, size); });
        s_free_sized(nullptr, 100);
    }
    if (s_free_aligned_sized != nullptr) {
        check::begin_case("free_aligned_sized");
        for (size_t alignment = 16; alignment <= 65536; alignment *= 2) {
            void* p = aligned_alloc(alignment, 3 * alignment);
            check_block(p, 3 * alignment, alignment);
            s_free_aligned_sized(p, alignment, 3 * alignment);
        }
        s_free_aligned_sized(nullptr, 64, 100);
    }
    aligned_allocators();
    realloc_takes_all();
    check::begin_case("null");
    free(nullptr);
    CHECK(malloc_usable_size(nullptr) == 0);
    return check::result();
}
