// Purpose: this process as a user of a domain: its settings and backing, memory for the domain, the
// transport through which
//          operations are performed, and what fork does to all of it.
// Who calls it: shim/allocator.cpp, preload/.
// Crash rule: private to the process.
#pragma once

#include <atomic>

#include "dsm-core/heap/ops.hpp"
#include "shim/backing.hpp"
#include "shim/environment.hpp"

namespace aep {

/// Bytes of the heap window that may hold blocks: every address below has mapped metadata. 0 until
/// start.
extern std::atomic<usize> window_bytes;

/// Maps the domain and chooses the backing; the first call does it, later ones return at once.
/// False: no memory. Safe before any constructor; makes system calls only.
bool process_start();

/// For tests: the backing and settings to use instead of what the environment says. Before the
/// first process_start.
void process_configure(const Backing* backing, const Settings& settings);

const Settings& settings();
const Backing& backing();

/// Performs an operation on behalf of `request.heap` (null: a thread without heap), after waiting
/// for a fork in progress. Reports blocks found freed twice. In private mode a plain call; joined
/// mode will enter the image here.
Reply transact(const Request& request);

/// Milliseconds of a coarse monotonic clock.
u64 now_ms();

/// A run of slices whose first `bytes` (a multiple of an OS page) have memory behind them, reserved
/// for `heap` (may be null); empty: out of memory. Adds chunks as needed.
Run obtain_run(Heap* heap, u32 slices, u32 alignment_slices, usize bytes);
/// Commits more of a page that is exhausted, and extends it. False: no memory.
bool extend_page(Heap* heap, PageDesc* d);
/// Adds chunks so that the one at index `at` exists; false if that place cannot be had.
bool extend_window(u32 at, u32 chunks);
/// Maps memory for further heaps. False: no memory or too many.
bool add_heaps();

/// Returns memory that has been free for the decay time to the system, if that is due; a few chunks
/// at a time.
void purge_if_due(u64 now);
/// Returns all free memory to the system. True if there was any.
bool purge_all();

/// Around fork: prepare returns false (ENOMEM) when the heap cannot be made private for the child;
/// then neither of the other two may follow. `self` is the calling thread's heap (null: none): it
/// alone may be inside an operation, as happens when a signal handler forks; it goes on with that
/// operation in both processes.
bool fork_prepare(Heap* self);
void fork_parent();
void fork_child(Heap* survivor);

}  // namespace aep
