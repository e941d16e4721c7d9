// Purpose: blocks that can be sent although a fork has made the heap private in part: they come
//          from chunks that were taken since.
// Who calls it: preload/dsm.cpp, for what programs ask of aep/dsm.h.
// Crash rule: that of the allocator: after its first fork a process's heap is its own.
#pragma once

#include "shim/sharing/guests.hpp"

namespace aep {

namespace detail {
/// What it is for a block that cannot be sent.
void* move_to_sendable(void* block, usize size, usize alignment, usize used);
}  // namespace detail

/// `block`, of `size` bytes and that alignment, or, if it cannot be sent, another one with the same
/// first `used` bytes in its place. `block` itself if there is none (no memory, a signal handler).
/// Thread-safe; after a fork, until the heap has chunks that were taken since, the cost of another allocation.
[[gnu::always_inline]] inline void* make_sendable(void* block, usize size, usize alignment,
                                                  usize used) {
    if (AEP_LIKELY(can_be_shared(block, size))) return block;
    return detail::move_to_sendable(block, size, alignment, used);
}

}  // namespace aep
