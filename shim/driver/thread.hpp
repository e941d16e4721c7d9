// Purpose: which heap a thread uses from its first allocation to its end, and after it.
// Who calls it: shim/driver/allocator.cpp, preload/fork.cpp.
// Crash rule: private to the process.
#pragma once

#include "dsm-core/heap/heap.hpp"
#include "shim/driver/slow_path.hpp"
#include "shim/sys/process_lock.hpp"

namespace aep {

/// The calling thread's own heap, attaching it first; to be called before the slow path is entered.
/// Null: the thread is ending or no heap can be had; it must use the shared heap.
Heap* attached_heap();

extern ProcessLock shared_heap_lock;

/// The heap of threads that have none of their own; use it only under shared_heap_lock. Null: no
/// memory.
Heap* shared_heap() AEP_UNDER(shared_heap_lock);

/// The heap whose pages all lie in memory that no fork has made private; use it only under
/// shared_heap_lock. Null: no memory.
Heap* sending_heap() AEP_UNDER(shared_heap_lock);

/// The heap of samples (watched.hpp), whose pages hold nothing else; use it only under shared_heap_lock. Null: no
/// memory.
Heap* sampled_heap() AEP_UNDER(shared_heap_lock);

/// Releases what these have of memory that is kept for reuse.
void trim_shared_heaps(u64 now);

/// Ends the calling thread's use of its heap: later calls of this thread still work, a little
/// slower.
void thread_end();

/// In a fork child, after the domain was repaired: the shared heaps are now abandoned ones.
void forget_shared_heaps() AEP_NOT_CHECKED;  // nobody else is there

}  // namespace aep
