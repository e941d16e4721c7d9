// Purpose: what others than the driver need of the pool backing, beyond `Backing`.
// Who calls it: joined_backing.cpp, whose chunks are of the same kind; preload/; tests.
// Crash rule: see pool_backing.cpp.
#pragma once

#include "shim/backing/pool_attach.hpp"

namespace aep {

/// Backing::commit and ::purge for chunks of ours, however they were taken.
bool commit_pool_memory(uptr address, usize bytes);
bool purge_pool_memory(uptr address, usize bytes);

/// To be called before the program's own madvise(MADV_DONTFORK) on heap memory (drivers of network
/// cards do that): in pool mode the range becomes private first, so that the advice holds across
/// forks. False: no memory (ENOMEM). Nothing to do in private mode.
bool before_fork_advice(uptr address, usize bytes);

}  // namespace aep
