// Purpose: see outside.hpp.
// Who calls it: see outside.hpp.
// Crash rule: see outside.hpp.
#include "shim/driver/outside.hpp"

#include "dsm-core/base/layout.hpp"
#include "shim/driver/aside.hpp"
#include "shim/driver/emergency.hpp"
#include "shim/driver/libc_heap.hpp"
#include "shim/driver/report.hpp"
#include "shim/driver/shared_blocks.hpp"
#include "shim/driver/watched.hpp"
#include "shim/watch/guard.hpp"

namespace aep {

bool drop_received(const void* p) {
    const SharedBlocks* sharing = sharing_answers();
    return sharing != nullptr && in_heap_window(reinterpret_cast<uptr>(p)) &&
           sharing->drop(const_cast<void*>(p)) == Dropped::kept;
}

[[gnu::cold]] usize received_size(const void* p) {
    const SharedBlocks* sharing = sharing_answers();
    return sharing != nullptr ? sharing->held_bytes(p) : 0;
}

usize usable_outside(void* p) {
    if (emergency_owns(p)) return emergency_size(p);
    if (p == nullptr) return 0;
    if (guard_owns(p)) return guard_size(p);
    return stays_on_libc() || is_libc_block(p) ? libc_usable_size(p) : received_size(p);
}

void deallocate_outside(void* p) {
    if (p == nullptr) return;
    if (AEP_UNLIKELY(stays_on_libc())) return libc_free(p);
    if (guard_owns(p)) return deallocate_guarded(p);
    if (drop_received(p)) return;
    if (AEP_UNLIKELY(emergency_owns(p))) {
        if (!emergency_free(p)) report_bad_free(reinterpret_cast<uptr>(p), BadFree::not_live);
        return;
    }
    if (is_libc_block(p)) return libc_free(p);
    report_bad_free(reinterpret_cast<uptr>(p), BadFree::foreign);
}

}  // namespace aep
