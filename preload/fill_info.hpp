// Purpose: fills a struct of aep/dsm.h whose size the caller says, for later versions add fields.
// Who calls it: the rest of preload/.
// Crash rule: no state.
#pragma once

#include <cstddef>
#include <cstring>

namespace aep {

/// No struct will be larger: a size beyond it is an error.
inline constexpr std::size_t MOST_INFO_BYTES = 4096;

/// What fits of `all`; what a newer header has besides becomes 0. `info` null: nothing.
template <class T>
void fill_info(T* info, std::size_t size, const T& all) {
    if (info == nullptr) return;
    const std::size_t known = size < sizeof all ? size : sizeof all;
    std::memcpy(static_cast<void*>(info), &all, known);
    std::memset(reinterpret_cast<char*>(info) + known, 0, size - known);
}

}  // namespace aep
