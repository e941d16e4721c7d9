// Purpose: the dispatcher: selects the operation by its number and performs it on the domain of the
//          slot's client; and what the image says of itself.
// Who calls it: entry.S, with the slot's sequence odd.
// Crash rule: everything below runs to its end, here or in a completer's worker.
#include "aep-lib/image/image_info.hpp"
#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/share_ops.hpp"

extern "C" {
extern const char aep_text_begin[], aep_text_end[], aep_shadow_return[];

/// One open operation; `slot` is the calling thread's.
void aep_dispatch(aep::Slot* slot) {
    using namespace aep;
    const u32 number = slot->op;
    const u32 client = SlotOwner{slot->owner.load(std::memory_order_relaxed)}.client();
    ++slot->operations;
    if (number < static_cast<u32>(Op::count)) {
        slot->reply = perform(domain_at(client), slot->request);
    } else if (!known_operation(number) && !known_share_op(number)) {
        log_ring().write(Event::unknown_number, client, number, 0);
        slot->reply = {.status = Status::no_such_op};
    } else if (context().state.load(std::memory_order_acquire) !=
               static_cast<u32>(ContextState::live)) {
        log_ring().write(Event::refused, client, number, 0);
        slot->reply = {.status = Status::poisoned};
    } else if (known_share_op(number)) {
        slot->reply = perform_share(client, static_cast<ShareOp>(number), slot->request);
    } else {
        slot->reply = perform_node(client, static_cast<NodeOp>(number), slot->request);
    }
}

__attribute__((section(".info"), used)) const aep::ImageInfo aep_image_info = {
    .magic = aep::IMAGE_MAGIC,
    .version = aep::IMAGE_VERSION,
    .info_bytes = sizeof(aep::ImageInfo),
    .layout_hash = aep::CONTEXT_LAYOUT_HASH,
    .text_begin = reinterpret_cast<aep::u64>(aep_text_begin),
    .text_end = reinterpret_cast<aep::u64>(aep_text_end),
    .shadow_return = reinterpret_cast<aep::u64>(aep_shadow_return),
};
}
