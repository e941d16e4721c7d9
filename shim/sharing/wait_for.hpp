// Purpose: how a call repeats what it attempts until that is done or its time is up: it looks a little, then sleeps on a word of the context, or naps.
// Who calls it: sharing.cpp (messages, room), topics.cpp (publications, room).
// Crash rule: no state but a count of waiters: of a process killed while it waits that stays too high, which costs others a system call.
#pragma once

#include <errno.h>

#include "shim/sharing/patience.hpp"
#include "shim/sharing/share_operation.hpp"
#include "shim/sharing/share_wait.hpp"

namespace aep {

/// What a wait looks at: a word that changes with whatever could help, and how many sleep on it.
struct Awaited {
    std::atomic<u32>& sequence;
    std::atomic<u32>& waiters;
    Status busy;  // what an attempt says that has to be repeated
    Patience& patience;
    // Changes when other nodes, which wake nobody, have helped. Null: they cannot.
    u64 (*beyond)(u32 node) = nullptr;
    u32 node = 0;
};

/// Naps until what others change says that something may have come: the sequence is not `seen` any more, or the word
/// beyond not `beyond`, as they were before the last attempt. 0, -EINTR, or -ETIMEDOUT when the wait is over.
/// Gives up references that the node holds and nobody of it needs: there is time for it.
long nap(const Awaited& on, u32 seen, u64 beyond, u64 deadline, Naps& naps);

/// Repeats `attempt` (whose answer is a Reply) while it says that it is busy, until something happens that
/// changes that.
template <class Attempt>
auto wait_for(const Awaited& on, int timeout_ms, long& result, Attempt attempt) {
    const auto signs = [&] {
        const u64 beyond = on.beyond != nullptr ? on.beyond(on.node) : 0;
        return beyond << 32 | on.sequence.load(std::memory_order_acquire);
    };
    u64 seen_signs = signs();
    auto reply = attempt();
    u32 looks = 0;
    for (; reply.status == on.busy && looks < on.patience.looks(); ++looks) {
        for (int pause = 0; pause < 8; ++pause) __builtin_ia32_pause();
        if (const u64 now = signs(); now != seen_signs) {
            seen_signs = now;
            reply = attempt();
        }
    }
    if (reply.status != on.busy) {
        on.patience.met_after(looks);
        result = error_of(reply.status);
        return reply;
    }
    const u64 begin = now_ns();
    const u64 deadline = deadline_of(begin, timeout_ms);
    Naps naps;
    // seq_cst: pairs with records.cpp's wake. The attempts that follow take the lock: see
    // Turn::wake_after.
    on.waiters.fetch_add(1, std::memory_order_seq_cst);
    result = 0;
    while (result == 0) {
        const u32 seen = on.sequence.load(std::memory_order_seq_cst);
        const u64 beyond = on.beyond != nullptr ? on.beyond(on.node) : 0;
        reply = attempt();
        if (reply.status != on.busy) break;
        result = on.beyond == nullptr ? sleep_while(on.sequence, seen, deadline)
                                      : nap(on, seen, beyond, deadline, naps);
    }
    on.waiters.fetch_sub(1, std::memory_order_seq_cst);
    on.patience.slept(now_ns() - begin);
    if (result == 0) result = error_of(reply.status);
    return reply;
}

}  // namespace aep
