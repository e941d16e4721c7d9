// Purpose: taking pages back from a heap whose thread does not come by: those whose blocks have all
//          been freed by others.
// Who calls it: op/heap_ops.cpp, for whoever needs memory; docs/design/heap.md has the argument.
// Crash rule: inside an operation that has the heap's sequence.
#pragma once

#include "dsm-core/heap/domain.hpp"

namespace aep {

/// Gives a page that is on no list of its heap any more, and holds nothing, back to the arena.
void give_page(Domain& dom, Heap* h, PageDesc* d, u64 now);

/// Gives back what others have freed wholly of a heap's pages, as far as its owner's fast path
/// cannot be at them. The owner is outside all operations and stays there meanwhile. Returns how
/// many slices. Linear in the pages that were queued to the heap.
u32 take_back(Domain& dom, Heap* h, u64 now);

}  // namespace aep
