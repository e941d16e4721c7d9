// Purpose: provider none: nobody finishes what was left open; the host performs its own operations.
// Who calls it: recovery, through Completion.
// Crash rule: the sequence is odd exactly while an operation of the host's may be half done. A host
//             that is killed meanwhile leaves a slot that is open without a capture.
#include "dsm-core/dispatch.hpp"
#include "node/completion.hpp"
#include "node/crash_points.hpp"

namespace aep {

SlotOutcome NoCompletion::complete(u32 slot) {
    return is_open(slot_at(slot)) ? SlotOutcome::no_capture : SlotOutcome::completed;
}

SlotOutcome NoCompletion::begin_operation(u32 index) {
    Slot& slot = slot_at(index);
    // seq_cst: nothing of the operation is seen by others before the slot says that it is open.
    slot.sequence.fetch_add(1, std::memory_order_seq_cst);
    AEP_NODE_CRASH_POINT("operation: begun");
    dispatch(slot);
    // release: who sees it even sees all that it did.
    slot.sequence.fetch_add(1, std::memory_order_release);
    return SlotOutcome::completed;
}

}  // namespace aep
