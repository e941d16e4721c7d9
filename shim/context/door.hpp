// Purpose: the one door through which this process's operations go into the image.
// Who calls it: transact.hpp for the heap's, behind the gate that a fork closes; joined_backing.cpp
//               for the node's and sharing/share_operation.hpp for those of sharing, which touch
//               nothing that a fork makes private and need no gate.
// Crash rule: see slots.hpp.
#pragma once

#include "aep-lib/image/enter.hpp"
#include "shim/context/slots.hpp"

namespace aep {

namespace detail {

template <class O>
[[gnu::always_inline]] inline typename O::Reply enter_with(Slot& slot, const O& o, u32 number) {
    entered_slot = &slot;
    const typename O::Reply reply = perform_through(slot, o, number);
    entered_slot = nullptr;
    return reply;
}

template <class O>
[[gnu::cold, gnu::noinline]] typename O::Reply enter_with_spare_slot(const O& o, u32 number) {
    if (Slot* const own = own_slot_after_all()) return enter_with(*own, o, number);
    const SpareSlot spare;
    if (!spare) return {.status = Status::limit};
    return enter_with(*spare, o, number);
}

}  // namespace detail

/// Performs an operation in the image through the thread's slot, or the spare one. Only while this
/// process is a client. `number`: see perform_through().
template <class O>
[[gnu::always_inline]] inline typename O::Reply perform_in_image(const O& o,
                                                                 u32 number = number_of<O>()) {
    Slot* const slot = thread_slot;
    return AEP_LIKELY(slot != nullptr) ? detail::enter_with(*slot, o, number)
                                       : detail::enter_with_spare_slot(o, number);
}

}  // namespace aep
