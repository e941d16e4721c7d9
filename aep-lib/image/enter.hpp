// Purpose: one operation through a slot: the request in, the reply out.
// Who calls it: the client's door (shim/context/door.hpp); tests that have slots of their own.
// Crash rule: the sequence is odd exactly while the operation is open. What is written of the
//             request before is nothing yet.
#pragma once

#include "aep-lib/image/image_info.hpp"

namespace aep {

/// Performs an operation through the slot, which is the calling thread's and at rest. `number`:
/// another than the operation's own, for callers that try what the image says to it.
template <class O>
[[gnu::always_inline]] inline typename O::Reply perform_through(Slot& slot, const O& o,
                                                                u32 number = number_of<O>()) {
    slot.op = number;
    copy_message<O>(slot.request, &o);
    enter_image()(&slot);
    return received<typename O::Reply>(slot.reply);
}

}  // namespace aep
