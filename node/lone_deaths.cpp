// Purpose: see lone_deaths.hpp.
// Who calls it: see lone_deaths.hpp.
// Crash rule: see lone_deaths.hpp.
#include "node/lone_deaths.hpp"

#include <fmt/format.h>

#include <utility>

#include "node/believed.hpp"
#include "node/context_state.hpp"
#include "node/living_threads.hpp"

namespace aep {
namespace {

/// Between two looks. An operation that is as open as it was takes longer than any does.
constexpr u64 LOOK_MS = 1000;

}  // namespace

/// Whether it would help if the slot, which is open, were found to be nobody's.
bool LoneDeaths::may_be_left_behind(u32 index) const {
    const Slot& slot = slot_at(index);
    // For an operation of the heap its own process alone waits, and nobody can undo it.
    const bool of_heap = is_heap_operation(slot.op);
    const u32 client = owner_of(slot).client();
    return client != 0 && (!of_heap || protection_.provider() == Provider::ebpf) &&
           served_.lives(client);
}

void LoneDeaths::finish(u64 now_ms) {
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
        if (slot.sequence.load(std::memory_order_acquire) == sequence) finish(i, client, tid);
    }
}

/// What thread `tid` of the client, which is gone, left open in the slot.
void LoneDeaths::finish(u32 slot, u32 client, u32 tid) {
    switch (operations_.complete_or_undo(slot)) {
        case SlotOutcome::completed:
            log_(LogLevel::info,
                 fmt::format("client {}: its thread {} died alone in an operation", client, tid));
            break;
        case SlotOutcome::pending:
            break;
        case SlotOutcome::no_capture:
            poison(slot, log_);
            break;
    }
}

}  // namespace aep
