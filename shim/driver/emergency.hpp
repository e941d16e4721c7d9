// Purpose: memory for a signal handler that calls malloc on top of the allocator: a small area of
//          this process, without locks.
// Who calls it: allocator.cpp.
// Crash rule: private to the process.
//
// What two at once, of which one may interrupt the other anywhere, may see:
//
//   allocate | allocate     two places: who comes second begins where the first ends
//   allocate | last free    the block lies behind what was there, or at the area's begin: one word says both
//                           how far it is used and by how many
//   free | free, one block  one takes the header, the other finds no live block
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

inline constexpr usize EMERGENCY_BYTES = 256 * KiB;

/// A block at a multiple of `alignment` (a power of two); null: the area is full. Its memory is
/// used again when all its blocks are free. Async-signal-safe.
void* emergency_allocate(usize size, usize alignment);

/// Whether the address lies in the area.
bool emergency_owns(const void* p);

/// Bytes that may be used in a live block; 0: there is no such block.
usize emergency_size(const void* p);

/// False: no live block begins there.
bool emergency_free(void* p);

}  // namespace aep
