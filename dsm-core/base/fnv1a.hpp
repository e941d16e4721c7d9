// Purpose: FNV-1a, the hash by which two programs tell that they mean the same: layouts, operations,
//          names of types.
// Who calls it: the formats of pool and context, the list of operations, preload/dsm.cpp.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

inline constexpr u64 FNV_BASIS = 0xcbf2'9ce4'8422'2325;
inline constexpr u64 FNV_PRIME = 0x100'0000'01b3;

/// Of bytes, after those that made `hash`; 64 bit.
template <class Byte>
constexpr u64 fnv1a(const Byte* bytes, usize count, u64 hash = FNV_BASIS) {
    static_assert(sizeof(Byte) == 1);
    for (usize i = 0; i < count; ++i) hash = (hash ^ static_cast<u8>(bytes[i])) * FNV_PRIME;
    return hash;
}

/// The same of numbers, each as its eight bytes, the lowest first.
template <usize N>
constexpr u64 fnv1a(const u64 (&numbers)[N]) {
    u64 hash = FNV_BASIS;
    for (const u64 number : numbers) {
        for (int shift = 0; shift < 64; shift += 8) {
            const u8 byte = static_cast<u8>(number >> shift);
            hash = fnv1a(&byte, 1, hash);
        }
    }
    return hash;
}

}  // namespace aep
