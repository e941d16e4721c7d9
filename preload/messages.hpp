// Purpose: what the C API's sends and receives have in common: arguments are checked, structs of the caller's version filled.
// Who calls it: dsm.cpp, mailboxes.cpp.
// Crash rule: that of the sharing operations; nothing is kept here.
#pragma once

#include <errno.h>

#include "include/aep/dsm.h"
#include "preload/errno_result.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/sharing/guests.hpp"
#include "shim/sharing/sharing.hpp"

namespace aep {

/// Marks what can be sent: an own block, of `bytes`, or perhaps one that was received (0). 0 or -errno.
inline long prepare_to_send(void* object, usize& bytes) {
    if (object == nullptr) return -EINVAL;
    bytes = mark_shared(object);
    // What was exported before a fork still is: the operation finds it.
    return bytes != 0 && !can_be_shared(object, bytes) && share_query(object).own == 0 ? -EXDEV : 0;
}

/// Calls f(bytes), which gives 0 or -errno, for what can be sent. As a C function.
template <class F>
int with_object(void* object, F&& f) {
    if (!takes_part()) return errno_result(-ENOTCONN);
    usize bytes = 0;
    if (const long wrong = prepare_to_send(object, bytes); wrong != 0) return errno_result(wrong);
    return errno_result(f(bytes));
}

/// What a sender says of a message, in `said`; false: it is not to be understood.
bool read_label(const struct dsm_label* label, unsigned flags, Label& said);

/// The number of one of the process's own mailboxes; 0 with errno: EINVAL: it has none of that id; ENOTCONN.
u32 own_mailbox(ShareId mailbox);

/// dsm_send_message, from one of the process's own mailboxes (DSM_ANY: the main one).
int send_as(ShareId mailbox, ShareId to, void* object, const struct dsm_label* label,
            int timeout_ms, unsigned flags);

/// dsm_recv_message, at one of the process's own mailboxes.
void* receive_at(ShareId mailbox, ShareId from, int timeout_ms, struct dsm_message* message,
                 size_t size);

/// Tells of a message as its receiver wants it.
void tell(const Received& received, struct dsm_message* message, size_t size);

}  // namespace aep
