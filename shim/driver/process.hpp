// Purpose: this process as a user of a domain: its settings and backing, memory for the domain, the
// transport through which
//          operations are performed, and what fork does to all of it.
// Who calls it: shim/driver/allocator.cpp, preload/.
// Crash rule: private to the process.
#pragma once

#include <atomic>

#include "dsm-core/heap/ops.hpp"
#include "shim/backing/backing.hpp"
#include "shim/sys/clock.hpp"
#include "shim/sys/environment.hpp"

namespace aep {

/// Slices of the heap window that may hold blocks: each of them has mapped metadata. 0 until start.
extern std::atomic<usize> window_slices __attribute__((visibility("hidden")));

/// Whether the address lies in memory that this allocator manages.
inline bool owns(const void* p) {
    return (reinterpret_cast<uptr>(p) - HEAP_BASE) >> SLICE_SHIFT <
           window_slices.load(std::memory_order_acquire);
}

/// The domain that this process allocates from.
extern uptr domain_address;
inline Domain& domain() { return *reinterpret_cast<Domain*>(domain_address); }

/// Whether the id is one of our domain's heaps, not another client's.
extern u32 own_domain_heaps __attribute__((visibility("hidden")));  // the first id
inline bool is_own_heap(u32 id) { return id - own_domain_heaps < HEAP_IDS; }

/// Maps the domain and chooses the backing; the first call does it, later ones return at once.
/// False: no memory. Safe before any constructor; makes system calls only.
bool process_start();

/// The same before the program's own code runs, if a pool or a context is named: joining takes more
/// of the system than it may have later. When the library is initialised, once.
void process_start_early();

/// For tests: the backing (null: as the settings say) and settings to use instead of what the
/// environment says. Before the first process_start.
void process_configure(const Backing* backing, const Settings& settings);

const Settings& settings();
/// settings().pure, known once a heap has been acquired.
extern bool pure_mode __attribute__((visibility("hidden")));
const Backing& backing();

/// Performs an operation on behalf of `request.heap` (null: a thread without heap), after waiting
/// for a fork in progress. Reports blocks found freed twice. A plain call in private mode; in the
/// image when the heap is in a context.
Reply transact(const Request& request);

/// Performs an operation of another thread's heap, `request.heap`, while that thread is outside;
/// miss, and nothing is done: it is not, or a fork goes on. With signals blocked.
Reply visit(const Request& request);

/// Performs the operation with that number, whatever it is, its arguments copied in from
/// `arguments` (a Request, whose `op` is ignored). 0; -EFAULT if they cannot be read; -ENOSYS if
/// there is no such operation; -EINVAL for another size; -ENOMEM, -ENOENT for what the operation
/// says.
long call_operation(u32 number, const void* arguments, usize bytes);

/// Copies from memory of this process that a caller only claims to be there. 0 or -EFAULT.
long copy_from_client(void* to, const void* from, usize bytes);

/// In the child of a client's fork that has not needed a chunk yet: becomes a client of its own. 0,
/// also if it is one; -errno.
long attach_again();

/// A run of slices whose first `bytes` (a multiple of an OS page) have memory behind them, reserved
/// for `heap` (may be null); empty: out of memory. Adds chunks as needed.
Run obtain_run(Heap* heap, u32 slices, u32 alignment_slices, usize bytes);

/// The same in chunks that suit alone, adding some if need be. Linear in the number of chunks.
Run obtain_run_within(Heap* heap, u32 slices, u32 alignment_slices, usize bytes,
                      bool (*suits)(u32 chunk));

/// Commits more of a page that is exhausted, and extends it. False: no memory.
bool extend_page(Heap* heap, PageDesc* d);
/// Makes the metadata of a run writable that becomes a page; false, and the run is given back: no
/// memory.
bool commit_page_metadata(const Run& run);
/// Adds chunks so that the one at index `at` exists; false if that place cannot be had.
bool extend_window(u32 at, u32 chunks);
/// Maps memory for further heaps. False: no memory or too many.
bool add_heaps();

/// A signal handler has jumped out of the allocator: gives back what the calling thread held.
void release_left_locks();

/// Around fork: prepare returns 0, ENOMEM when the heap cannot be made private for the child, or
/// EAGAIN when a signal handler forks on top of what a child could not go on with; if not 0,
/// neither of the other two may follow. `self` is the calling thread's heap (null: none): it alone
/// may be inside an operation, as happens when a signal handler forks; it goes on with that
/// operation in both processes.
int fork_prepare(Heap* self);
void fork_parent();
void fork_child(Heap* survivor);

}  // namespace aep
