// Purpose: wakes the threads of this process that sleep on a process-shared futex in memory that
//          a fork has just made private: the kernel knows them by the file, later wakers come by
//          the address. They look at their word again and, if need be, sleep again where they are
//          found.
// Who calls it: pool_backing.cpp, in the parent after a fork that froze chunks.
// Crash rule: no state.
#pragma once

#include "shim/backing/pool_shared.hpp"

namespace aep {

/// Wakes every thread that sleeps on a process-shared futex in the pool's chunks.
void wake_shared_waiters(const PoolHere& pool);

/// Parses /proc/PID/task/TID/syscall: true, with its address, if the thread waits on a
/// process-shared futex.
bool parse_shared_wait(const char* text, uptr& address);

}  // namespace aep
