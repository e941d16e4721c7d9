// Purpose: free and malloc_usable_size of what is no block of our heap: null, libc's own blocks, guarded blocks, those of
//          the emergency area, objects that others have sent.
// Who calls it: allocator.hpp, allocator.cpp and deallocate.cpp.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// free of what does not lie in the window: null, and all of the above; else it is reported (report.hpp).
void deallocate_outside(void* p);

/// free of an object that another client sent: true if it was one.
bool drop_received(const void* p);

/// Bytes of an object that another client sent, or of a group's root; 0: it is neither.
usize received_size(const void* p);

/// Bytes that may be used of what does not lie in the window; 0: none.
usize usable_outside(void* p);

}  // namespace aep
