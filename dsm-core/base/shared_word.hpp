// Purpose: reads a plain word that others may write at any moment.
// Who calls it: lock-free readers of fields whose one writer writes them as std::atomic_ref.
// Crash rule: no state.
#pragma once

#include <atomic>

namespace aep {

/// One load of `word`, which is not const for everybody: C++20's std::atomic_ref takes no const.
template <class T>
[[gnu::always_inline]] inline T read_shared(const T& word, std::memory_order order) {
    return std::atomic_ref<T>(const_cast<T&>(word)).load(order);
}

}  // namespace aep
