// Purpose: when and how free memory goes back to the system; how much, the arena's decay says.
// Who calls it: allocator.cpp, thread.cpp and process.cpp on slow paths, background.cpp,
// malloc_trim. Crash rule: see purging.cpp.
#pragma once

#include "dsm-core/base/types.hpp"
#include "shim/sys/process_lock.hpp"

namespace aep {

/// One thread at a time gives memory back. Here for fork.
extern ProcessLock purge_lock;

/// Returns memory that nobody has needed for the decay time to the system, a little at a time
/// (decay.hpp), if that is due and no background thread does it. Cheap when it is not.
void purge_if_due(u64 now);
/// The same for a thread outside the slow path, whose clock is looked at only if something may be due.
void look_at_clock();
/// The same, whether it is due or not, for that thread.
void purge_due(u64 now);
/// Returns all free memory to the system. True if there was any.
bool purge_all();

}  // namespace aep
