// Purpose: makes recycled memory read as zero at the least cost: what is present is written, what
//          is not stays so.
// Who calls it: allocator.cpp (calloc).
// Crash rule: the memory is the caller's own; a kill leaves it partly zeroed.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Makes [address, address+bytes) read as zero, of a block of the caller's that begins there. Of
/// one of 8 MiB and more in private memory, which may well be touched in few places, slices that
/// are not present (never touched, or swapped out) are given back unread. Costs about a memset of
/// what is present.
void zero_recycled(uptr address, usize bytes);

}  // namespace aep
