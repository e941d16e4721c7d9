// Purpose: see host_slot.hpp.
// Who calls it: see host_slot.hpp.
// Crash rule: see host_slot.hpp.
#include "node/host_slot.hpp"

#include <fmt/format.h>

#include <optional>
#include <system_error>
#include <utility>

#include "dsm-core/sharing/away.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "node/believed.hpp"
#include "node/context_state.hpp"
#include "node/crash_points.hpp"
#include "node/lookout.hpp"

namespace aep {
namespace {

/// So often may an operation of the host's break before nobody believes the tables any more.
constexpr u32 MOST_FAILURES = 3;

}  // namespace

/// Asks the provider, and undoes what that cannot complete.
SlotOutcome HostSlot::complete_or_undo() {
    const u32 index = host_slot();
    const SlotOutcome outcome = protection_.completion().complete(index);
    if (outcome != SlotOutcome::no_capture || !protection_.undoes()) return outcome;
    // Whatever ends the host's own operation again and again is what the tables say.
    if (++failures_ > MOST_FAILURES || !undo_.undo(index)) return SlotOutcome::no_capture;
    // What it has pinned is put right before the next one begins.
    SlotUndo::pay(index);
    ends_with_ = NONE_ENDS;  // it has not been performed, and is begun when it is asked for again
    // release: who sees it even sees nothing of the operation.
    slot_at(index).sequence.fetch_add(1, std::memory_order_release);
    return SlotOutcome::completed;
}

SlotOutcome HostSlot::settle() {
    const SlotOutcome outcome = complete_or_undo();
    if (outcome != SlotOutcome::completed || std::exchange(settled_, true)) return outcome;
    Slot& slot = slot_at(host_slot());
    if (slot.owner.load(std::memory_order_relaxed) == 0) return outcome;
    // A capture may have been made for the sequence that was to come next, and nothing else of that
    // operation will: that sequence never comes.
    slot.sequence.fetch_add(2, std::memory_order_relaxed);
    slot.owner.store(0, std::memory_order_release);  // release: the sequence is the new one
    return outcome;
}

/// A client is dead, and nobody completes what it has left open: whoever waits for what it holds
/// goes on, for it is undone, or else the context is poisoned; again each time, for what is taken
/// in a poisoned context can be left held, too. In a thread beside the host's, which waits itself.
void HostSlot::free_what_the_dead_hold() {
    for (u32 i = 0; i < host_slot(); ++i) {
        const Slot& slot = slot_at(i);
        const SlotOwner owner = owner_of(slot);
        if (owner.state() != SlotState::used || !is_open(slot) || served_.lives(owner.client()))
            continue;
        // Asked once more: its client may have ended the operation before it died.
        if (protection_.completion().complete(i) != SlotOutcome::no_capture) continue;
        if (!protection_.undoes() || !undo_.undo(i)) poison(i, log_);
    }
}

/// Begins the operation that is written in the slot.
SlotOutcome HostSlot::begin() {
    std::optional<Lookout> lookout;
    if (protection_.completion().performs_here()) {
        try {
            lookout.emplace([this] { free_what_the_dead_hold(); });
        } catch (const std::system_error& error) {
            log_(LogLevel::warning,
                 fmt::format(
                     "an operation of the daemon's may wait for a dead client: no thread: {}",
                     error.what()));
        }
    }
    return protection_.completion().begin_operation(host_slot());
}

/// An operation that is not completed: waits for it, or for nothing any more.
Performed HostSlot::unfinished(SlotOutcome outcome) {
    if (outcome == SlotOutcome::pending) return Performed::pending;
    poison(host_slot(), log_);
    return Performed::failed;
}

SlotOutcome HostSlot::write_and_begin(u64 owner, const Asked& asked) {
    Slot& slot = slot_at(host_slot());
    // relaxed: nobody else looks until the sequence is odd. For who comes after a kill: it must not
    // be later than the capture, which begin_operation() writes after system calls.
    slot.owner.store(owner, std::memory_order_relaxed);
    AEP_NODE_CRASH_POINT("operation: slot taken");
    asked.write(slot);
    AEP_NODE_CRASH_POINT("operation: written");
    // If it cannot begin now, the slot never ends with this, and it is begun when asked again.
    // Nobody awaits the reply of an operation that finishes another one.
    ends_with_ =
        asked.finishes != NO_SLOT ? NONE_ENDS : slot.sequence.load(std::memory_order_relaxed) + 2;
    return begin();
}

Performed HostSlot::perform_asked(u32 client, const Asked& asked) {
    if (is_poisoned()) return Performed::failed;
    const u32 index = host_slot();
    Slot& slot = slot_at(index);
    const u64 owner =
        SlotOwner::make(client, client_at(client).generation.load(std::memory_order_relaxed)).bits;
    // Whosever operation is there: this one, another client's, or a former host's.
    SlotOutcome outcome = settle();
    if (outcome != SlotOutcome::completed) return unfinished(outcome);
    const u64 holder = slot.owner.load(std::memory_order_relaxed);
    // Begun by this host, and the reply not read. Recovery frees the slot with its client's others
    // if the client no longer asks.
    const bool awaited = holder != 0 && ends_with_ == slot.sequence.load(std::memory_order_relaxed);
    if (awaited && holder != owner) return Performed::pending;
    // What an operation of the host's left between nodes when it was undone comes first. One that
    // has ended left nothing, whatever is written there.
    if (asked.finishes != index && !awaited) {
        if (const Performed left = finish_pinned(index); left != Performed::done) return left;
    }
    if (!awaited || !asked.is_there(slot)) {
        outcome = write_and_begin(owner, asked);
        if (outcome != SlotOutcome::completed) return unfinished(outcome);
    }
    AEP_NODE_CRASH_POINT("operation: performed");
    failures_ = 0;
    asked.read(slot);
    slot.owner.store(0, std::memory_order_release);  // release: the reply was read before
    AEP_NODE_CRASH_POINT("operation: slot freed");
    return Performed::done;
}

Performed HostSlot::finish_pinned(u32 slot) {
    if (!shares_between_nodes()) return Performed::done;
    // What nobody pinned is nothing to be put right.
    if (undo_.pinned_by(slot) == NO_RECORD) pin_of(slot).put(NO_RECORD);
    if (pin_of(slot).load() == NO_RECORD && !may_have_told_a_name(slot)) return Performed::done;
    op::FinishAway::Reply reply;
    return perform_for(0, op::FinishAway{slot}, reply);
}

}  // namespace aep
