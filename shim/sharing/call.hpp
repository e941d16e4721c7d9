// Purpose: calls: a message whose answer comes to whoever sent it, also among many threads that call at once.
// Who calls it: the C API (preload/mailboxes.cpp).
// Crash rule: each step is an operation. Who dies while it calls has its mailbox closed with all that it has: the answer cannot
//             be sent (ESRCH), or is dropped.
//
// A call is sent as from a further mailbox, and the answer is what comes there next. The mailbox is the call's alone
// as long as that lasts. Afterwards it has another id: a second answer, or one that comes too late, meets nobody, and whoever sends it
// is told. It is kept for the next call, by any thread: a process has as many as it has had calls at once.
#pragma once

#include "shim/sharing/sharing.hpp"

namespace aep {

/// Sends the object and waits for the answer. `bytes`, `how` (but as whom), timeout_ms: as share_send; the time is for both. -ESRCH: `to` is gone,
/// or it went before it answered; -ETIMEDOUT; -EINTR: a handler ran.
long share_call(ShareId to, void* p, usize bytes, int timeout_ms, Sending how, Received& answer);

}  // namespace aep
