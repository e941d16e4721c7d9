// Purpose: see call.hpp.
// Who calls it: see call.hpp.
// Crash rule: see call.hpp.
#include "shim/sharing/call.hpp"

#include <errno.h>

#include "shim/sharing/kept_mailboxes.hpp"
#include "shim/sharing/share_wait.hpp"

namespace aep {
namespace {

/// What is left of a time that began then; -1: for ever.
int left_of(int timeout_ms, u64 begin) {
    if (timeout_ms <= 0) return timeout_ms;
    const u64 gone = (now_ns() - begin) / 1'000'000;
    return gone < static_cast<u64>(timeout_ms) ? timeout_ms - static_cast<int>(gone) : 0;
}

}  // namespace

long share_call(ShareId to, void* p, usize bytes, int timeout_ms, Sending how, Received& answer) {
    if (!takes_part()) return -ENOTCONN;
    long result = 0;
    const u64 begin = timeout_ms > 0 ? now_ns() : 0;
    const ShareId own = take_mailbox(result);
    if (result != 0) return result;
    how.as = own.inbox();
    result = share_send(to, p, bytes, timeout_ms, how);
    if (result == 0) {
        const Wanted wanted{.at = own.inbox(), .while_open = to};
        result = share_receive(wanted, left_of(timeout_ms, begin), answer);
        if (result == -EAGAIN) result = -ETIMEDOUT;
    }
    keep_mailbox(own);
    return result;
}

}  // namespace aep
