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

/// A run of slices whose first `bytes` (a multiple of an OS page) have memory behind them, reserved
/// for `heap` (may be null); empty: out of memory. Adds chunks as needed.
Run obtain_run(Heap* heap, u32 slices, u32 alignment_slices, usize bytes);

/// The same in chunks that suit alone, adding some if need be. Linear in the number of chunks.
Run obtain_run_within(Heap* heap, u32 slices, u32 alignment_slices, usize bytes,
                      bool (*suits)(u32 chunk));

/// The page that find_page has found (`found` is no miss), with memory for its next blocks. Null: there is none for a page
/// that needs some; before that is said, memory that is only kept for reuse goes back.
PageDesc* page_found(Heap* heap, const op::FindPage::Reply& found);
/// Makes the metadata of a run writable that becomes a page; false, and the run is given back: no
/// memory.
bool commit_page_metadata(const Run& run);
/// Adds chunks so that the one at index `at` exists; false if that place cannot be had.
bool extend_window(u32 at, u32 chunks);
/// Maps memory for further heaps. False: no memory or too many.
bool add_heaps();

/// In the child of a client's fork that has not needed a chunk yet: becomes a client of its own. 0,
/// also if it is one; -errno.
long attach_again();

}  // namespace aep
