// Purpose: see operation_recovery.hpp.
// Who calls it: see operation_recovery.hpp.
// Crash rule: see operation_recovery.hpp.
#include "node/operation_recovery.hpp"

#include <errno.h>
#include <fmt/format.h>

#include "node/answer.hpp"
#include "node/believed.hpp"
#include "node/context_state.hpp"
#include "node/crash_points.hpp"

namespace aep {
namespace {

bool is_of_heap(const Slot& slot) { return is_heap_operation(slot.op); }

}  // namespace

SlotOutcome OperationRecovery::roll_back(u32 index) {
    Slot& slot = slot_at(index);
    if (!protection_.undoes() || !undo_.undo(index)) return SlotOutcome::no_capture;
    switch (host_slot_.finish_pinned(index)) {
        case Performed::done:
            break;
        case Performed::pending:
            return SlotOutcome::pending;
        case Performed::failed:
            return SlotOutcome::no_capture;
    }
    AEP_ROLLBACK_CRASH_POINT("rollback: nothing pinned");
    SlotUndo::pay(index);
    const SlotOwner owner{slot.owner.load(std::memory_order_relaxed)};
    if (is_of_heap(slot) && owner.client() <= context().max_clients)
        client_at(owner.client()).left_open.store(1, std::memory_order_relaxed);
    context().undone.fetch_add(1, std::memory_order_relaxed);
    // release: who sees it even sees nothing of the operation.
    slot.sequence.fetch_add(1, std::memory_order_release);
    return SlotOutcome::completed;
}

SlotOutcome OperationRecovery::complete_or_undo(u32 slot) {
    const SlotOutcome outcome = protection_.completion().complete(slot);
    return outcome == SlotOutcome::no_capture ? roll_back(slot) : outcome;
}

AnswerMessage OperationRecovery::complete_slot(pid_t pid, const AskMessage& ask) {
    if (ask.slot >= context().max_slots) return make_answer(EINVAL, "there is no such slot");
    const Slot& slot = slot_at(ask.slot);
    const u32 client = owner_of(slot).client();
    if (client == 0 || ask.slot == host_slot() || facts_of(client).pid != static_cast<u32>(pid))
        return make_answer(EPERM, "the slot is not the client's");
    if (is_at_rest(slot)) return make_answer(0, "");
    SlotOutcome outcome = protection_.completion().complete(ask.slot);
    if (outcome == SlotOutcome::no_capture && protection_.undoes()) {
        // Its heap goes on without what the operation had in hand: that cannot be undone.
        if (is_of_heap(slot)) {
            return make_answer(
                ENOTRECOVERABLE,
                fmt::format("provider {} cannot complete an operation of its heap that "
                            "was left: the process gets no more memory; its end harms "
                            "nobody",
                            provider_name(protection_.provider())));
        }
        outcome = roll_back(ask.slot);
    }
    switch (outcome) {
        case SlotOutcome::completed:
            return make_answer(0, "");
        case SlotOutcome::pending:
            return make_answer(EINPROGRESS, "");
        case SlotOutcome::no_capture:
            break;
    }
    poison(ask.slot, log_);
    return make_answer(ENOTRECOVERABLE, fmt::format("the context is poisoned: {}", poison_text()));
}

}  // namespace aep
