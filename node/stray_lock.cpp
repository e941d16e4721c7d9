// Purpose: see stray_lock.hpp.
// Who calls it: see stray_lock.hpp.
// Crash rule: see stray_lock.hpp.
#include "node/stray_lock.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "dsm-core/sharing/format.hpp"
#include "node/context_state.hpp"

namespace aep {

void free_stray_lock(const Log& log) {
    ShareHeader& s = sharing();
    const u32 holder = s.lock.holder();
    if (holder == SlotLock::NO_SLOT || is_poisoned()) return;
    if (holder < context().max_slots) {
        const std::atomic<u32>& sequence = slot_at(holder).sequence;
        // Named before and after a moment in which it was in none, and it has begun none since: who
        // ends an operation frees the lock first, and who is named takes it from nobody. In this
        // order (acquire, each).
        const u32 before = sequence.load(std::memory_order_acquire);
        if (before % 2 != 0 || s.lock.holder() != holder ||
            sequence.load(std::memory_order_acquire) != before)
            return;
    }
    const std::string text = fmt::format(
        "the lock of sharing names slot {}, which is in no "
        "operation: a client wrote that there",
        holder);
    // Whoever had it before is in the middle of something, and nobody knows who that was.
    const bool halfway = s.version.load(std::memory_order_acquire) % 2 != 0;
    if (halfway) {
        log(LogLevel::error, text + ", while somebody else held it");
        poison(std::min(holder, host_slot()), log);
    } else if (s.lock.give_up_of(holder)) {
        log(LogLevel::warning, text + "; it is free again");
    }
}

}  // namespace aep
