// Purpose: mailboxes of this process that are kept for its next calls.
// Who calls it: call.cpp; sharing.cpp, when the process ceases to take part.
// Crash rule: private to the process; the mailboxes go with it.
#pragma once

#include "shim/sharing/share_operation.hpp"

namespace aep {

/// One that is open, empty and no call's; 0, with -errno in `result`: none can be had. Async-signal-safe where opening one is.
ShareId take_mailbox(long& result);

/// For the next call, to which no answer to this one may come: it goes on under another id, or is closed.
void keep_mailbox(ShareId id);

/// What is kept is the process's no more: in a forked child, or all its mailboxes are about to be closed.
void forget_kept_mailboxes();

}  // namespace aep
