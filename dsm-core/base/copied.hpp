// Purpose: reads what others may write once, into the reader's own memory: what is then judged is what is used.
// Who calls it: whoever does not believe the writer (the node host, checks), or reads without the lock.
// Crash rule: no state.
#pragma once

#include <new>
#include <type_traits>

#include "dsm-core/base/types.hpp"

namespace aep {

namespace detail {
/// How much of a T is read or written at once.
template <class T>
using WordOf =
    std::conditional_t<alignof(T) % 8 == 0, u64, std::conditional_t<alignof(T) % 4 == 0, u32, u8>>;
template <class T>
inline constexpr usize WORDS_OF = sizeof(T) / alignof(WordOf<T>);
}  // namespace detail

/// A copy of `shared` in the caller's memory, word by word; the words need not be of one moment. The compiler cannot go
/// back to the original, which may be another one by then. Cost: a copy.
template <class T>
T copied(const T& shared) {
    static_assert(std::is_trivially_copy_constructible_v<T> && std::is_trivially_destructible_v<T>);
    using Word = detail::WordOf<T>;
    alignas(T) Word own[detail::WORDS_OF<T>];
    const Word* from = reinterpret_cast<const Word*>(&shared);
    // relaxed: whoever needs an order has a version or a lock beside it.
    for (usize i = 0; i < detail::WORDS_OF<T>; ++i)
        own[i] = __atomic_load_n(from + i, __ATOMIC_RELAXED);
    return *reinterpret_cast<const T*>(own);
}

/// The other way: writes `own` word by word where others may read meanwhile.
template <class T>
void put_copy(T& shared, const T& own) {
    static_assert(std::is_trivially_copy_constructible_v<T>);
    using Word = detail::WordOf<T>;
    const Word* from = reinterpret_cast<const Word*>(&own);
    // relaxed: as above.
    for (usize i = 0; i < detail::WORDS_OF<T>; ++i) {
        Word word;
        __builtin_memcpy(&word, from + i, sizeof word);
        __atomic_store_n(reinterpret_cast<Word*>(&shared) + i, word, __ATOMIC_RELAXED);
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
