// Purpose: the dispatcher: the table from an operation's number to the function that performs it, and
//          what every operation that comes by number goes through.
// Who calls it: the image, with the slot's sequence odd; the node host without a provider.
// Crash rule: in the image it runs to its end, in the thread or in a completer's worker, or it is
//             undone. A host without a provider that is killed in here leaves the slot open:
//             poisoned.
//
// The table is the lists of op/operations.hpp, the function of each is perform() for its type: the
// compiler makes a switch of them, since an image calls nothing indirectly (check_image.py).
#pragma once

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/op/heap_ops.hpp"
#include "dsm-core/sharing/share_ops.hpp"

namespace aep {

namespace detail {

/// Performs O with the slot's request for client `client`.
template <class O>
typename O::Reply perform_in(const Slot& slot, u32 client) {
    const O request = received<O>(slot.request);
    if constexpr (HeapOperation<O>) return perform(domain_at(client), request);
    if constexpr (NodeOperation<O>) return perform(client, request);
    if constexpr (ShareOperation<O>) return perform(Caller{client, index_of(slot)}, request);
}

/// One operation from its request to its reply. A function of its own for each, so that the dispatcher goes there by
/// a jump and keeps nothing for when it comes back.
template <class O>
[[gnu::noinline]] void perform_in_slot(Slot& slot, u32 client) {
    const typename O::Reply reply = perform_in<O>(slot, client);
    copy_message<typename O::Reply>(slot.reply, &reply);
}

[[gnu::noinline, gnu::cold]] inline void refuse(Slot& slot, Status status) {
    const Done refusal{status};
    copy_message<Done>(slot.reply, &refusal);
}

}  // namespace detail

/// Performs the operation with number slot.op and what slot.request says for the slot's client and
/// leaves slot.reply.
inline void dispatch(Slot& slot) {
    const u32 number = slot.op;
    const u32 client = SlotOwner{slot.owner.load(std::memory_order_relaxed)}.client();
    ++slot.operations;
    if (!is_heap_operation(number)) {
        if (!is_operation(number)) {
            log_ring().write(Event::unknown_number, client, number, 0);
            return detail::refuse(slot, Status::no_such_op);
        }
        // acquire: who sees it poisoned sees why.
        const auto state =
            static_cast<ContextState>(context().state.load(std::memory_order_acquire));
        if (state != ContextState::live) {
            log_ring().write(Event::refused, client, number, 0);
            return detail::refuse(
                slot, state == ContextState::fenced ? Status::fenced : Status::poisoned);
        }
    }
    visit_operation(number, [&]<class O>() { detail::perform_in_slot<O>(slot, client); });
}

}  // namespace aep
