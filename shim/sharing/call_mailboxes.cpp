// Purpose: see call_mailboxes.hpp.
// Who calls it: see call_mailboxes.hpp.
// Crash rule: see call_mailboxes.hpp.
#include "shim/sharing/call_mailboxes.hpp"

#include <errno.h>

#include <atomic>

#include "shim/sharing/mailboxes.hpp"
#include "shim/sharing/share_wait.hpp"

namespace aep {
namespace {

/// Mailboxes that no call has now: ids, 0: a free place. Taken and put back with one exchange, so that signal handlers may call, too.
constexpr u32 MOST_KEPT = 64;
std::atomic<u64> kept[MOST_KEPT];

/// One for a call. 0: -errno in `result`.
ShareId take_mailbox(long& result) {
    result = 0;
    for (std::atomic<u64>& place : kept) {
        if (place.load(std::memory_order_relaxed) == 0) continue;
        // acquire: whoever had it before has taken its answer.
        const ShareId id{place.exchange(0, std::memory_order_acquire)};
        if (id.bits != 0 && own_inbox(id) != 0) return id;
    }
    ShareId id{};
    result = open_mailbox(id);
    return id;
}

/// For the next call, to which no answer to this one may come.
void keep_mailbox(ShareId id) {
    const u32 inbox = id.inbox();
    if (rename_mailbox(id) != 0) return static_cast<void>(close_inbox(inbox));
    for (std::atomic<u64>& place : kept) {
        u64 nothing = 0;
        if (place.compare_exchange_strong(nothing, id.bits, std::memory_order_release)) return;
    }
    close_inbox(inbox);
}

/// What is left of a time that began then; -1: for ever.
int left_of(int timeout_ms, u64 begin) {
    if (timeout_ms <= 0) return timeout_ms;
    const u64 gone = (now_ns() - begin) / 1'000'000;
    return gone < static_cast<u64>(timeout_ms) ? timeout_ms - static_cast<int>(gone) : 0;
}

}  // namespace

long share_call(ShareId to, void* p, usize bytes, int timeout_ms, const Label& label, bool& sent,
                Received& answer) {
    sent = false;
    if (!takes_part()) return -ENOTCONN;
    long result = 0;
    const u64 begin = timeout_ms > 0 ? now_ns() : 0;
    const ShareId own = take_mailbox(result);
    if (result != 0) return result;
    result = share_send(to, p, bytes, timeout_ms, label, own.inbox());
    sent = result == 0;
    if (sent) {
        const Wanted wanted{.at = own.inbox(), .while_open = to};
        result = share_receive(wanted, left_of(timeout_ms, begin), answer);
        if (result == -EAGAIN) result = -ETIMEDOUT;
    }
    keep_mailbox(own);
    return result;
}

void forget_call_mailboxes() {
    for (std::atomic<u64>& place : kept) place.store(0, std::memory_order_relaxed);
}

}  // namespace aep
