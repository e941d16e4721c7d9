// Purpose: what the driver and tests need of the pool backing beyond `Backing`.
// Who calls it: shim/driver/allocator.cpp's slow path, the fork hooks, tests.
// Crash rule: see pool_backing.cpp.
#pragma once

#include "shim/backing/pool_shared.hpp"

namespace aep {

/// False in a child that was made behind our back (a clone that no fork hook saw): the pool's
/// chunks are not mapped in it, so the heap cannot be used. Always true in private mode, where
/// copy-on-write makes any child whole.
bool in_attached_process();

/// To be called before the program's own madvise(MADV_DONTFORK) on heap memory (drivers of network
/// cards do that): in pool mode the range becomes private first, so that the advice holds across
/// forks. False: no memory (ENOMEM). Nothing to do in private mode.
bool before_fork_advice(uptr address, usize bytes);

/// The pool of this process; for tests and statistics.
const PoolHere& pool_here();

}  // namespace aep
