// Purpose: memory that others have freed of a thread's pages goes back although that thread does
// not
//          come by: whoever needs memory visits its heap.
// Who calls it: process.cpp before it takes a chunk, when memory is short and when it purges;
//               background.cpp.
// Crash rule: private to the process; between two visits nothing is changed.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Visits all heaps and gives back the pages that are wholly free by others' marks; true if there
/// were any. Heaps whose threads are inside an operation are left out. Any thread, outside
/// operations; signals are blocked meanwhile, so that no handler leaves a visit open.
bool take_back_all(u64 now);

/// The same, unless the last visits were in vain: then only once in so many calls, up to 64.
bool take_back_if_worth(u64 now);

/// Whether pages wait for their owners in any heap. One load a heap.
bool pages_wait();

}  // namespace aep
