// Purpose: the way into the operations in a hosted build, where sanitizers see them: on the caller's own stack.
// Who calls it: shim/context/slots.cpp, tests/hosted, as others enter the image (image_info.hpp).
// Crash rule: none: nobody completes or undoes what is open when such a process ends.
#include "aep-lib/image/image_info.hpp"
#include "dsm-core/dispatch.hpp"

namespace aep {

void enter_hosted(Slot* slot) {
    slot->sequence.fetch_add(1, std::memory_order_relaxed);
    dispatch(*slot);
    slot->sequence.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace aep
