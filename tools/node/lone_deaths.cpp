// Purpose: what a thread left open that died alone, in a process that lives on: by its exit in a
//          signal handler on top of an operation, by a filter that ends threads.
// Who calls it: the sweep.
// Crash rule: as for any slot of the dead. A host that is killed in here is followed by one that
//             has to see the slot unchanged once more.
//
// No connection and no lock tells of such a death, only that a slot stays open and that /proc does
// not show its thread any more. Whom it cannot show is believed alive.
#include <utility>

#include "tools/node/believed.hpp"
#include "tools/node/host.hpp"
#include "tools/node/living_threads.hpp"

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

}  // namespace aep
