// Purpose: memory of the pool that cannot be had any more, because the machine has lost it or the
//          file was cut short: who touches it ends by SIGBUS, as without us, says where that was,
//          and the node's daemon learns of it.
// Who calls it: join.cpp.
// Crash rule: one record in the context's ring, which counts when it is whole. Of a process whose
//             own handler has SIGBUS, or that is killed before it has told, nobody is told.
#pragma once

namespace aep {

/// From now on such faults of this client, and of children that are clients of their own, are told.
/// What the program has set for SIGBUS happens all the same. Two system calls.
void tell_of_failed_memory();

}  // namespace aep
