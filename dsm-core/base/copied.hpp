// Purpose: reads what others may write once, into the reader's own memory: what is then judged is what is used.
// Who calls it: whoever does not believe the writer (the node host, checks), or reads without the lock.
// Crash rule: no state.
#pragma once

#include <new>
#include <type_traits>

#include "dsm-core/base/types.hpp"

namespace aep {

namespace detail {

// Whatever lies there is read and written as words. No template's arguments: those lose the attribute, and a
// std::atomic_ref of such a word would be one of a word that aliases nothing else; hence GCC's builtins.
using AliasWord [[gnu::may_alias]] = u64;
using AliasHalf [[gnu::may_alias]] = u32;
using AliasByte [[gnu::may_alias]] = u8;

/// Reads so many bytes (8, 4 or 1) that others may write.
template <usize BYTES>
[[gnu::always_inline]] inline void read_once(uptr to, uptr from) {
    // relaxed: whoever needs an order has a version or a lock beside it.
    if constexpr (BYTES == 8) {
        *reinterpret_cast<AliasWord*>(to) =
            __atomic_load_n(reinterpret_cast<const AliasWord*>(from), __ATOMIC_RELAXED);
    } else if constexpr (BYTES == 4) {
        *reinterpret_cast<AliasHalf*>(to) =
            __atomic_load_n(reinterpret_cast<const AliasHalf*>(from), __ATOMIC_RELAXED);
    } else {
        static_assert(BYTES == 1);
        *reinterpret_cast<AliasByte*>(to) =
            __atomic_load_n(reinterpret_cast<const AliasByte*>(from), __ATOMIC_RELAXED);
    }
}

/// The other way: writes what others may read.
template <usize BYTES>
[[gnu::always_inline]] inline void write_once(uptr to, uptr from) {
    // relaxed: as above.
    if constexpr (BYTES == 8) {
        __atomic_store_n(reinterpret_cast<AliasWord*>(to),
                         *reinterpret_cast<const AliasWord*>(from), __ATOMIC_RELAXED);
    } else if constexpr (BYTES == 4) {
        __atomic_store_n(reinterpret_cast<AliasHalf*>(to),
                         *reinterpret_cast<const AliasHalf*>(from), __ATOMIC_RELAXED);
    } else {
        static_assert(BYTES == 1);
        __atomic_store_n(reinterpret_cast<AliasByte*>(to),
                         *reinterpret_cast<const AliasByte*>(from), __ATOMIC_RELAXED);
    }
}

/// How much of a T is read or written at once.
template <class T>
inline constexpr usize WORD_OF = alignof(T) % 8 == 0   ? 8
                                 : alignof(T) % 4 == 0 ? 4
                                                       : 1;

}  // namespace detail

/// A copy of `shared` in the caller's memory, word by word; the words need not be of one moment. The compiler cannot go
/// back to the original, which may be another one by then. Cost: a copy.
template <class T>
T copied(const T& shared) {
    static_assert(std::is_trivially_copy_constructible_v<T> && std::is_trivially_destructible_v<T>);
    alignas(T) u8 own[sizeof(T)];
    const uptr to = reinterpret_cast<uptr>(own), from = reinterpret_cast<uptr>(&shared);
    constexpr usize STEP = detail::WORD_OF<T>;
    for (usize at = 0; at < sizeof(T); at += STEP) detail::read_once<STEP>(to + at, from + at);
    return *reinterpret_cast<const T*>(own);
}

/// The other way: writes `own` word by word where others may read meanwhile.
template <class T>
void put_copy(T& shared, const T& own) {
    static_assert(std::is_trivially_copy_constructible_v<T>);
    const uptr to = reinterpret_cast<uptr>(&shared), from = reinterpret_cast<uptr>(&own);
    constexpr usize STEP = detail::WORD_OF<T>;
    for (usize at = 0; at < sizeof(T); at += STEP) detail::write_once<STEP>(to + at, from + at);
}

/// The same where it is done often: as plain stores, which on x86 are seen word by word, too, and are fewer instructions
/// than the compiler makes of put_copy(). ThreadSanitizer is shown that one.
template <class T>
T& put_copy_quickly(T& shared, const T& own) {
#if defined(__SANITIZE_THREAD__)
    put_copy(shared, own);
    return shared;
#else
    return *new (static_cast<void*>(&shared)) T(own);
#endif
}

}  // namespace aep
