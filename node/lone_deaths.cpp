// Purpose: what a thread left open that died alone, in a process that lives on: by its exit in a
//          signal handler on top of an operation, by a filter that ends threads.
// Who calls it: the sweep.
// Crash rule: as for any slot of the dead. A host that is killed in here is followed by one that
//             has to see the slot unchanged once more.
//
// No connection and no lock tells of such a death, only that a slot stays open and that /proc does
// not show its thread any more. Whom it cannot show is believed alive.
#include <algorithm>
#include <utility>

#include "dsm-core/sharing/format.hpp"
#include "node/believed.hpp"
#include "node/host.hpp"
#include "node/living_threads.hpp"

namespace aep {
namespace {

/// Between two looks. An operation that is as open as it was takes longer than any does.
constexpr u64 LOOK_MS = 1000;

}  // namespace

/// Whether it would help if the slot, which is open, were found to be nobody's.
bool NodeHost::may_be_left_behind(u32 index) const {
    const Slot& slot = slot_at(index);
    // For an operation of the heap its own process alone waits, and nobody can undo it.
    const bool of_heap = slot.op < static_cast<u32>(Op::count);
    const u32 client = owner_of(slot).client();
    return client != 0 && (!of_heap || provider() == Provider::ebpf) && life_held(client);
}

/// Ends operations whose thread is dead. Slots stay their process's: it may use them again.
void NodeHost::finish_left_behind(u64 now_ms) {
    if (now_ms < next_look_ms_) return;
    next_look_ms_ = now_ms + LOOK_MS;
    open_before_.resize(host_slot());
    LivingThreads threads;
    for (u32 i = 0; i < host_slot(); ++i) {
        const Slot& slot = slot_at(i);
        const u32 sequence = slot.sequence.load(std::memory_order_acquire);
        const u32 before = std::exchange(open_before_[i], sequence % 2 != 0 ? sequence : 0);
        if (sequence % 2 == 0 || before != sequence || !may_be_left_behind(i)) continue;
        const u32 tid = slot.tid.load(std::memory_order_relaxed);
        const u32 client = owner_of(slot).client();
        if (tid == 0 || !threads.is_gone(static_cast<pid_t>(facts_of(client).pid), tid)) continue;
        // It may have ended the operation before it ended.
        if (slot.sequence.load(std::memory_order_acquire) != sequence) continue;
        switch (complete_or_undo(i)) {
            case SlotOutcome::completed:
                say(LogLevel::info, "client " + std::to_string(client) + ": its thread " +
                                        std::to_string(tid) + " died alone in an operation");
                break;
            case SlotOutcome::pending:
                break;
            case SlotOutcome::no_capture:
                poison(i);
                break;
        }
    }
}

/// The lock of sharing is taken and let go within an operation. If its word names a slot that is in
/// none, a client wrote that there: nobody lets it go, and all wait who share.
void NodeHost::free_stray_lock() {
    ShareHeader& s = sharing();
    const u32 holder = s.lock.holder();
    if (holder == SlotLock::NO_SLOT || poisoned()) return;
    if (holder < context().max_slots) {
        const std::atomic<u32>& sequence = slot_at(holder).sequence;
        // Named before and after a moment in which it was in none, and it has begun none since: who
        // ends an operation frees the lock first, and who is named takes it from nobody. In this
        // order (acquire, each).
        const u32 before = sequence.load(std::memory_order_acquire);
        if (before % 2 != 0 || s.lock.holder() != holder ||
            sequence.load(std::memory_order_acquire) != before) {
            return;
        }
    }
    const std::string text = "the lock of sharing names slot " + std::to_string(holder) +
                             ", which is in no operation: a client wrote that there";
    // Whoever had it before is in the middle of something, and nobody knows who that was.
    const bool halfway =
        undo_log().seen_length() != 0 || s.version.load(std::memory_order_acquire) % 2 != 0;
    if (halfway) {
        say(LogLevel::error, text + ", while somebody else held it");
        poison(std::min(holder, host_slot()));
    } else if (s.lock.give_up_of(holder)) {
        say(LogLevel::warning, text + "; it is free again");
    }
}

}  // namespace aep
