// Purpose: see stray_lock.hpp.
// Who calls it: see stray_lock.hpp.
// Crash rule: see stray_lock.hpp.
#include "node/stray_lock.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "dsm-core/sharing/format.hpp"
#include "dsm-core/sharing/topics.hpp"
#include "node/context_state.hpp"
#include "node/quiet_moment.hpp"

namespace aep {

namespace {

/// `index`: of several; NONE: there is one of them. The name is made for the message alone: thousands are looked at a sweep.
constexpr u32 NONE = ~u32{0};
void free_if_stray(SlotLock& lock, const char* which, u32 index, const Log& log) {
    const u32 holder = lock.holder();
    if (holder == SlotLock::NO_SLOT || is_poisoned()) return;
    if (holder < context().max_slots) {
        const std::atomic<u32>& sequence = slot_at(holder).sequence;
        // Named before and after a moment in which it was in none, and it has begun none since: who
        // ends an operation frees the lock first, and who is named takes it from nobody. In this
        // order (acquire, each).
        const u32 before = sequence.load(std::memory_order_acquire);
        if (before % 2 != 0 || lock.holder() != holder ||
            sequence.load(std::memory_order_acquire) != before)
            return;
    }
    const std::string text =
        fmt::format("{}{} names slot {}, which is in no operation: a client wrote that there",
                    which, index == NONE ? "" : fmt::format(" {}", index), holder);
    // Whoever had it before is in the middle of something, and nobody knows who that was.
    if (!QuietMoment().began()) {
        log(LogLevel::error, text + ", while somebody else held it");
        poison(std::min(holder, host_slot()), log);
    } else if (lock.give_up_of(holder)) {
        log(LogLevel::warning, text + "; it is free again");
    }
}

}  // namespace

void free_stray_locks(const Log& log) {
    ShareHeader& s = sharing();
    free_if_stray(s.names, "the lock of names", NONE, log);
    free_if_stray(s.records, "the lock of records", NONE, log);
    free_if_stray(s.numbers, "the lock of numbers", NONE, log);
    free_if_stray(s.lingering, "the lock of what lingers", NONE, log);
    for (u32 i = 0; i <= context().max_clients; ++i) {
        free_if_stray(share_client(i).lock.taken(), "the lock of client", i, log);
        free_if_stray(share_client(i).inbox.lock, "the inbox of client", i, log);
    }
    for (u32 i = 0; i < further_inboxes(context().max_clients); ++i)
        free_if_stray(inbox_at(FIRST_FURTHER + i).lock, "the lock of further inbox", i, log);
    for (u32 i = 0; i < MOST_TOPICS; ++i)
        free_if_stray(inbox_at(first_topic() + i).lock, "the lock of topic", i, log);
    for (u32 i = 0; i < STRIPES; ++i)
        free_if_stray(stripe_at(i).lock, "the lock of stripe", i, log);
}

}  // namespace aep
