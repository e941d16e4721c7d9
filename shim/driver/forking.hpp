// Purpose: fork: the list of all that takes part in one, and its order.
// Who calls it: preload/fork.cpp around a fork; the layer above enters itself.
// Crash rule: private to the process; docs/design/fork.md says what a kill during it leaves.
#pragma once

#include "shim/sys/fork_participant.hpp"

namespace aep {

/// Enters who lies above the driver, which does not know them; again: nothing. Thread-safe.
void take_part_in_forks(const ForkParticipant& participant);

/// Around fork, by one thread at a time: prepare returns 0, ENOMEM when the heap cannot be made
/// private for the child, or EAGAIN when a signal handler forks on top of what a child could not go
/// on with; if not 0, neither of the other two may follow.
int fork_prepare();
void fork_parent();
void fork_child();

}  // namespace aep
