// Purpose: this process as a user of a domain: its settings and backing, and memory for the domain.
// Who calls it: the rest of the driver, preload/.
// Crash rule: private to the process.
#pragma once

#include <atomic>

#include "dsm-core/heap/domain.hpp"
#include "shim/backing/backing.hpp"
#include "shim/sys/clock.hpp"
#include "shim/sys/environment.hpp"
#include "shim/sys/process_lock.hpp"

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

/// Held by who starts it. Here for fork.
extern ProcessLock start_lock;

/// For tests: the backing (null: as the settings say) and settings to use instead of what the
/// environment says. Before the first process_start.
void process_configure(const Backing* backing, const Settings& settings);

const Settings& settings();
/// settings().pure, known once a heap has been acquired.
extern bool pure_mode __attribute__((visibility("hidden")));
const Backing& backing();

}  // namespace aep
