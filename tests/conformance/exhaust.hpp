// What the exhaustion programs share: fill the heap until it says ENOMEM, check all of it, free
// half, go on. Used by pool_full, tmpfs_full and cgroup_full. Crash rule: check.hpp.
#pragma once

#include <pthread.h>

#include "tests/conformance/check.hpp"

namespace check {

inline constexpr size_t k_most_blocks = 1 << 20;
inline void* blocks[k_most_blocks];

/// Allocates and writes blocks until there are no more; the last answer must be null with ENOMEM.
inline size_t fill_up(size_t size, size_t give_up) {
    size_t n = 0;
    while (true) {
        errno = 0;
        void* p = n < k_most_blocks ? malloc(size) : nullptr;
        if (p == nullptr) {
            CHECK(errno == ENOMEM, "size %zu after %zu blocks", size, n);
            return n;
        }
        fill(p, size, n);  // a block whose memory is not really there would end in SIGBUS here
        blocks[n++] = p;
        if (n * size > give_up) {
            fail(__FILE__, __LINE__, "the heap has an end", " %zu blocks of %zu", n, size);
            return n;
        }
    }
}

/// Fills the heap, frees every other block, fills again; at least `least` bytes each time.
inline void exhaust(size_t size, size_t least, size_t give_up) {
    const size_t first = fill_up(size, give_up);
    CHECK(first * size >= least, "size %zu: only %zu bytes", size, first * size);
    for (size_t i = 0; i < first; ++i) CHECK_PATTERN(blocks[i], size, i);
    // Every kind of call fails alike and leaves what there is.
    if (first > 0) {
        errno = 0;
        void* p = realloc(blocks[0], give_up * 2);
        CHECK(p == nullptr && errno == ENOMEM, "realloc gave %p", p);
        CHECK_PATTERN(blocks[0], size, 0);
    }
    errno = 0;
    void* p = calloc(2, give_up);
    CHECK(p == nullptr && errno == ENOMEM, "calloc gave %p", p);
    errno = 0;
    p = aligned_alloc(4096, give_up);
    CHECK(p == nullptr && errno == ENOMEM, "aligned_alloc gave %p", p);
    for (size_t i = 0; i < first; i += 2) free(blocks[i]);
    size_t again = 0;
    for (size_t i = 0; i < first; i += 2) {
        blocks[i] = malloc(size);
        if (blocks[i] == nullptr) continue;
        fill(blocks[i], size, i);
        ++again;
    }
    CHECK(again * 20 >= (first + 1) / 2 * 19, "size %zu: %zu of %zu freed blocks came back", size,
          again, (first + 1) / 2);
    for (size_t i = 0; i < first; ++i) {
        if (blocks[i] != nullptr) CHECK_PATTERN(blocks[i], size, i);
        free(blocks[i]);
    }
}

/// Four threads exhaust the heap together, all get ENOMEM, and afterwards it serves again.
inline void exhaust_in_threads(size_t size, size_t least) {
    static std::atomic<size_t> count;
    static size_t s_size;
    static std::atomic<void*> lists[4];
    count = 0;
    s_size = size;
    pthread_t threads[4];
    for (uintptr_t t = 0; t < 4; ++t) {
        lists[t] = nullptr;
        REQUIRE(pthread_create(
                    &threads[t], nullptr,
                    [](void* argument) -> void* {
                        const auto me = reinterpret_cast<uintptr_t>(argument);
                        // A list through the blocks themselves: the first word points to the one
                        // before.
                        void* list = nullptr;
                        while (true) {
                            errno = 0;
                            void* p = malloc(s_size);
                            if (p == nullptr) break;
                            memset(p, static_cast<int>(me + 1), s_size);
                            *static_cast<void**>(p) = list;
                            list = p;
                            if (count.fetch_add(1) * s_size > size_t{1} << 30) break;
                        }
                        CHECK(errno == ENOMEM);
                        lists[me] = list;
                        return nullptr;
                    },
                    reinterpret_cast<void*>(t)) == 0);
    }
    for (const pthread_t thread : threads) REQUIRE(pthread_join(thread, nullptr) == 0);
    CHECK(count * size >= least, "only %zu bytes", count * size);
    for (size_t t = 0; t < 4; ++t) {
        for (void* p = lists[t]; p != nullptr;) {
            for (size_t i = sizeof p; i < size; ++i) {
                if (static_cast<unsigned char*>(p)[i] != t + 1) {
                    fail(__FILE__, __LINE__, "blocks of other threads are separate", " %p byte %zu",
                         p, i);
                    break;
                }
            }
            void* next = *static_cast<void**>(p);
            free(p);
            p = next;
        }
    }
    void* p = malloc(size);
    CHECK(p != nullptr);
    free(p);
}

}  // namespace check
