// Purpose: goes through a client's references, in its tree and in its mailbox, whose words the client may write: every index
//          is judged before it is used, and nothing is come by twice.
// Who calls it: the check of sharing, the survey of objects.
// Crash rule: reads only.
#pragma once

#include <algorithm>
#include <vector>

#include "dsm-core/base/copied.hpp"
#include "dsm-core/sharing/records.hpp"

namespace aep {

/// Calls `on_branch(link, branch)` and `on_holder(index, holder)` for each record below `tree`, with copies of them.
/// `come_by(index)` says whether the record may be looked at: that there is such a one, that it has not been come by
/// before, and that there is time. Cost: a look a record.
template <class ComeBy, class OnBranch, class OnHolder>
void each_reference(u32 tree, ComeBy&& come_by, OnBranch&& on_branch, OnHolder&& on_holder) {
    std::vector<u32> links{tree};
    while (!links.empty()) {
        u32 at = links.back();
        links.pop_back();
        if ((at & IS_BRANCH) != 0) {
            if (!come_by(at & ~IS_BRANCH)) continue;
            const Branch branch = copied(branch_at(at));
            for (const Logged<u32>& way : branch.ways)
                if (way != NO_RECORD) links.push_back(way);
            on_branch(at, branch);
            continue;
        }
        while (at != NO_RECORD && come_by(at)) {
            const Holder holder = copied(holder_at(at));
            on_holder(at, holder);
            at = holder.next;
        }
    }
}

/// Calls `f(place, message)` for each place of an inbox that is in use, the oldest first, with copies: one that refers
/// to NO_RECORD was taken before older ones. What they refer to is not judged.
template <class F>
void each_message_in(u32 inbox, F&& f) {
    const Inbox& in = inbox_at(inbox);
    const u32 first = in.first_message.load() % MAILBOX_MESSAGES;
    const u32 messages = std::min(in.messages.load(), MAILBOX_MESSAGES);
    for (u32 i = 0; i < messages; ++i) f(i, copied(ring_of(inbox)[(first + i) % MAILBOX_MESSAGES]));
}

/// Calls `f(place, message)` for all of the client's inboxes.
template <class F>
void each_message(u32 client, F&& f) {
    each_inbox(
        client, [&](u32 inbox) { each_message_in(inbox, f); });
}

}  // namespace aep
