// Purpose: reads what others may write once, into the reader's own memory: what is then judged is
//          what is used.
// Who calls it: whoever does not believe the writer: the node host, checks.
// Crash rule: no state.
#pragma once

#include <type_traits>

#include "dsm-core/base/types.hpp"

namespace aep {

/// A copy of `shared` in the caller's memory. The compiler cannot go back to the original, which
/// may be another one by then. The fields need not be of one moment. Cost: a copy.
template <class T>
T copied(const T& shared) {
    static_assert(std::is_trivially_copy_constructible_v<T> && std::is_trivially_destructible_v<T>);
    alignas(T) u8 own[sizeof(T)];
    __builtin_memcpy(own, static_cast<const void*>(&shared), sizeof own);
    asm volatile("" : : "r"(own) : "memory");  // own may have been changed, shared too
    return *reinterpret_cast<const T*>(own);
}

}  // namespace aep
