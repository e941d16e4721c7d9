// A population of live blocks of all sizes with patterns, which fork and thread tests check,
// repaint, change and free. Used by the programs of this folder. The bookkeeping is part of the
// object (static memory in the programs), so that a damaged heap cannot damage it. Crash rule:
// check.hpp.
#pragma once

#include <malloc.h>

#include "tests/conformance/check.hpp"

namespace check {

/// Count blocks; sizes grow geometrically and repeat, so that every size class up to the largest is
/// there.
template <size_t Count>
struct Population {
    unsigned char* blocks[Count];
    size_t sizes[Count];
    uint64_t seed;

    /// Allocates and paints all blocks; the largest has about `largest` bytes.
    void make(size_t largest, uint64_t paint_seed) {
        seed = paint_seed;
        size_t size = 1;
        for (size_t i = 0; i < Count; ++i) {
            sizes[i] = size;
            blocks[i] = static_cast<unsigned char*>(malloc(size));
            REQUIRE(blocks[i] != nullptr, "no %zu bytes", size);
            fill(blocks[i], size, seed + i);
            size += size / 7 + 1 + i % 5;
            if (size > largest) size = 1 + i % 13;
        }
    }
    void check() const {
        for (size_t i = 0; i < Count; ++i) CHECK_PATTERN(blocks[i], sizes[i], seed + i);
    }
    void repaint(uint64_t paint_seed) {
        seed = paint_seed;
        for (size_t i = 0; i < Count; ++i) fill(blocks[i], sizes[i], seed + i);
    }
    /// Frees and allocates every third block anew.
    void renew() {
        for (size_t i = 0; i < Count; i += 3) {
            free(blocks[i]);
            blocks[i] = static_cast<unsigned char*>(malloc(sizes[i]));
            REQUIRE(blocks[i] != nullptr, "no %zu bytes", sizes[i]);
            fill(blocks[i], sizes[i], seed + i);
        }
    }
    void free_all() {
        for (size_t i = 0; i < Count; ++i) {
            free(blocks[i]);
            blocks[i] = nullptr;
            sizes[i] = 0;
        }
    }
    size_t bytes() const {
        size_t sum = 0;
        for (const size_t size : sizes) sum += size;
        return sum;
    }
};

}  // namespace check
