// Purpose: more memory: runs of slices from the arena, chunks from the backing when it has none,
//          more of a page, more heaps.
// Who calls it: allocator.cpp, reallocate.cpp, thread.cpp, sharing/sendable.cpp.
// Crash rule: between two operations a process holds at most a reserved run, which recovery finds
//             by its tag; chunks that the backing gave are the process's, like others.
#pragma once

#include "dsm-core/op/heap_operations.hpp"
#include "shim/sys/process_lock.hpp"

namespace aep {

/// One thread at a time takes chunks from the backing. Here for fork.
extern ProcessLock growth_lock;

/// Asks for a page of a class, with all that the operation lacks: memory, chunks. Null: there is no
/// memory, or, of a wish that is not `fresh`, no such page. Before there is said to be none, memory
/// that is only kept for reuse goes back.
PageDesc* refill(const op::Refill& wanted);

/// The same for a large object; empty: no memory.
Run make_large(const op::MakeLarge& wanted);

/// Reserves a run of slices for `heap` (may be null) in chunks that suit, adding some if need be;
/// empty: there are none. Linear in the number of chunks.
Run obtain_run_within(Heap* heap, u32 slices, u32 alignment_slices, bool (*suits)(u32 chunk));

/// Adds chunks so that the one at index `at` exists; false if that place cannot be had.
bool extend_window(u32 at, u32 chunks);
/// Maps memory for further heaps. False: no memory or too many.
bool add_heaps();

/// In the child of a client's fork that has not needed a chunk yet: becomes a client of its own. 0,
/// also if it is one; -errno.
long attach_again();

}  // namespace aep
