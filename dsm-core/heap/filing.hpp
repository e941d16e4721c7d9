// Purpose: where a heap's pages stand: with the queues, on the full list, or given back; what brings them there (frees,
//          the marks of others, time), and the look for one that has a block to give.
// Who calls it: op/heap_ops.cpp.
// Crash rule: inside operations only, and they complete (op/heap_operations.hpp).
#pragma once

#include "dsm-core/heap/domain.hpp"

namespace aep {

/// Files a page of which blocks came back where it then belongs. `now`: ms.
void refile(Domain& dom, Heap* h, PageDesc* d, u64 now);

/// Takes in the remote frees of all pages that were queued to the heap; pages of other heaps are
/// sent on. `bad` becomes a block that was freed twice, if there is one.
void drain_remote(Domain& dom, Heap* h, uptr& bad, u64 now);

/// Releases the wholly free pages that classes keep: those that were so at the last look already,
/// or `all`.
void release_idle(Domain& dom, Heap* h, bool all, u64 now);

/// A page to be looked for.
struct PageWanted {
    Heap* heap = nullptr;
    u32 size_class = 0;
    bool thorough = false;  // full pages' few free blocks count, too
    bool own_only = false;  // no page of others' is adopted
    u64 now = 0;            // ms
};

/// What that has found.
struct PageFound {
    PageDesc* page;  // null: none; with no block at hand: more of it must be committed
    uptr twice_freed;
};
PageFound find_page(Domain& dom, const PageWanted& wanted);

/// Gives an exhausted page further blocks; false: none can be written.
bool extend_page(PageDesc* d);

}  // namespace aep
