// Purpose: from which size of the heap on its further chunks are of huge pages: the rule of private
//          memory and of pools. Huge pages save a fault for each 4 KiB, but the first 4 KiB cost 2 MiB.
// Who calls it: anonymous_backing.cpp, pool_pages.cpp; process.cpp and thread.cpp say what it depends on.
// Crash rule: no state but of this process.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Chunks are of huge pages, where the system permits, as soon as the heap has `from` bytes, and
/// more than a chunk for each of the threads' heaps, of which there are `count`. The former before
/// the first chunk, the latter at any time.
void use_huge_pages(usize from);
void serve_heaps(u32 count);

/// Whether a fresh chunk is to be of huge pages, in a heap that has `held` chunks with it. A single
/// one fills from below with small things; a longer run is one object, which its backing has to
/// judge.
bool wants_huge_pages(u32 held);

}  // namespace aep
