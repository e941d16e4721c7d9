// Purpose: see kept_mailboxes.hpp.
// Who calls it: see kept_mailboxes.hpp.
// Crash rule: see kept_mailboxes.hpp.
#include "shim/sharing/kept_mailboxes.hpp"

#include "shim/sharing/mailboxes.hpp"

namespace aep {
namespace {

/// Mailboxes that no call has now: ids, 0: a free place. Taken and put back with one exchange, so that signal handlers may call, too.
constexpr u32 MOST_KEPT = 64;
std::atomic<u64> kept[MOST_KEPT];

}  // namespace

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

void keep_mailbox(ShareId id) {
    const u32 inbox = id.inbox();
    if (rename_mailbox(id) != 0) return static_cast<void>(close_inbox(inbox));
    for (std::atomic<u64>& place : kept) {
        u64 nothing = 0;
        if (place.compare_exchange_strong(nothing, id.bits, std::memory_order_release)) return;
    }
    close_inbox(inbox);
}

void forget_kept_mailboxes() {
    for (std::atomic<u64>& place : kept) place.store(0, std::memory_order_relaxed);
}

}  // namespace aep
