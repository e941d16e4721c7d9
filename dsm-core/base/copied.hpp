// Purpose: reads what others may write once, into the reader's own memory: what is then judged is what is used.
// Who calls it: whoever does not believe the writer (the node host, checks), or reads without the lock.
// Crash rule: no state.
#pragma once

#include <new>
#include <type_traits>

#include "dsm-core/base/types.hpp"

namespace aep {

namespace detail {

// Whatever lies there is read and written as words. No template's arguments: those lose the attribute.
using AliasWord [[gnu::may_alias]] = u64;
using AliasHalf [[gnu::may_alias]] = u32;
using AliasByte [[gnu::may_alias]] = u8;

// relaxed: whoever needs an order has a version or a lock beside it.
[[gnu::always_inline]] inline void read_word(uptr to, uptr from) {
    *reinterpret_cast<AliasWord*>(to) =
        __atomic_load_n(reinterpret_cast<const AliasWord*>(from), __ATOMIC_RELAXED);
}
[[gnu::always_inline]] inline void read_half(uptr to, uptr from) {
    *reinterpret_cast<AliasHalf*>(to) =
        __atomic_load_n(reinterpret_cast<const AliasHalf*>(from), __ATOMIC_RELAXED);
}
[[gnu::always_inline]] inline void read_byte(uptr to, uptr from) {
    *reinterpret_cast<AliasByte*>(to) =
        __atomic_load_n(reinterpret_cast<const AliasByte*>(from), __ATOMIC_RELAXED);
}
inline void write_word(uptr to, uptr from) {
    __atomic_store_n(reinterpret_cast<AliasWord*>(to), *reinterpret_cast<const AliasWord*>(from),
                     __ATOMIC_RELAXED);
}
inline void write_half(uptr to, uptr from) {
    __atomic_store_n(reinterpret_cast<AliasHalf*>(to), *reinterpret_cast<const AliasHalf*>(from),
                     __ATOMIC_RELAXED);
}
inline void write_byte(uptr to, uptr from) {
    __atomic_store_n(reinterpret_cast<AliasByte*>(to), *reinterpret_cast<const AliasByte*>(from),
                     __ATOMIC_RELAXED);
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
    for (usize at = 0; at < sizeof(T); at += STEP) {
        if constexpr (STEP == 8) detail::read_word(to + at, from + at);
        if constexpr (STEP == 4) detail::read_half(to + at, from + at);
        if constexpr (STEP == 1) detail::read_byte(to + at, from + at);
    }
    return *reinterpret_cast<const T*>(own);
}

/// The other way: writes `own` word by word where others may read meanwhile.
template <class T>
void put_copy(T& shared, const T& own) {
    static_assert(std::is_trivially_copy_constructible_v<T>);
    const uptr to = reinterpret_cast<uptr>(&shared), from = reinterpret_cast<uptr>(&own);
    constexpr usize STEP = detail::WORD_OF<T>;
    for (usize at = 0; at < sizeof(T); at += STEP) {
        if constexpr (STEP == 8) detail::write_word(to + at, from + at);
        if constexpr (STEP == 4) detail::write_half(to + at, from + at);
        if constexpr (STEP == 1) detail::write_byte(to + at, from + at);
    }
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
