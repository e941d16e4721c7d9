// Purpose: the dispatcher: selects the operation by the number in a slot and performs it on the
//          domain of the slot's client.
// Who calls it: the image, with the slot's sequence odd; the node host without a provider.
// Crash rule: in the image it runs to its end, in the thread or in a completer's worker, or it is
//             undone. A host without a provider that is killed in here leaves the slot open:
//             poisoned.
#pragma once

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/share_ops.hpp"

namespace aep {

/// Performs slot.op with slot.request for the slot's client and leaves slot.reply.
inline void dispatch(Slot& slot) {
    const u32 number = slot.op;
    const u32 client = SlotOwner{slot.owner.load(std::memory_order_relaxed)}.client();
    ++slot.operations;
    if (number < static_cast<u32>(Op::count)) {
        slot.reply = perform(domain_at(client), slot.request);
    } else if (!known_operation(number) && !known_share_op(number)) {
        log_ring().write(Event::unknown_number, client, number, 0);
        slot.reply = {.status = Status::no_such_op};
    } else if (const auto state =
                   static_cast<ContextState>(context().state.load(std::memory_order_acquire));
               state != ContextState::live) {
        log_ring().write(Event::refused, client, number, 0);
        slot.reply = {.status = state == ContextState::fenced ? Status::fenced : Status::poisoned};
    } else if (known_share_op(number)) {
        const Request& r = slot.request;
        const ShareReply reply = perform_share(
            {client, index_of(slot)}, static_cast<ShareOp>(number), {r.a, r.b, r.now, r.mask});
        slot.reply.status = reply.status;
        slot.reply.value = reply.value;
        slot.reply.mask = reply.mask;
        slot.reply.extra = reply.extra;
    } else {
        slot.reply = perform_node(client, static_cast<NodeOp>(number), slot.request);
    }
}

}  // namespace aep
