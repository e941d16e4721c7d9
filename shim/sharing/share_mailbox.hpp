// Purpose: whether a message waits in one of this process's inboxes, without taking it.
// Who calls it: sharing.cpp (a process's first receive), share_fd.cpp (the thread behind the descriptor).
// Crash rule: of what is shared it changes only whose rings the node looks into, which each sweep mends.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Whether a message waits in the process's own inbox, from whomever: of this node's clients, or in a ring of
/// another node's. Takes nothing and performs no operation; for a thread that has no thread-local storage, too.
bool a_message_waits(u32 inbox);

}  // namespace aep
