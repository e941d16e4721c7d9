// Purpose: further mailboxes of this process: opened, closed, bounded.
// Who calls it: the C API (preload/mailboxes.cpp), calls (kept_mailboxes.cpp), sharing.cpp.
// Crash rule: each is one operation, or several that may be asked for again; a process's go with it.
//
// Functions return 0 or -errno.
#pragma once

#include "shim/sharing/share_operation.hpp"

namespace aep {

/// Makes an inbox' ring present. False: no memory.
bool make_ring_present(u32 inbox);

/// Opens a further one. -ENOTCONN; -ENOSPC: the context has no more; -ENOMEM. Cost: an operation, and the first time that somebody has it
/// 16 KiB of memory.
long open_mailbox(ShareId& id);

/// The further one goes on under another id: what is sent to the former one comes no more. -EBUSY: something has come.
long rename_mailbox(ShareId& id);

/// Closes one of the process's inboxes, and drops what it has. -ESRCH: it has none of that number.
long close_inbox(u32 inbox);

/// Bounds the memory that messages in it are about; 0: not.
long limit_inbox(u32 inbox, usize bytes);

}  // namespace aep
