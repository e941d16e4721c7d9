// Purpose: blocks that can be sent although a fork has made the heap private in part: they come
//          from chunks that were taken since.
// Who calls it: preload/dsm.cpp, for what programs ask of aep/dsm.h.
// Crash rule: that of the allocator: after its first fork a process's heap is its own.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// `block`, of `size` bytes and that alignment, or, if it cannot be sent, another one with the same
/// first `used` bytes in its place. `block` itself if there is none (no memory, a signal handler).
/// Thread-safe; for others than the first after a fork the cost of another allocation.
void* make_sendable(void* block, usize size, usize alignment, usize used);

}  // namespace aep
