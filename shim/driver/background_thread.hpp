// Purpose: the thread that gives freed memory back to the system although the program calls nothing
//          (AEP_BACKGROUND=1).
// Who calls it: allocator.cpp and preload/ where it may be started.
// Crash rule: private to the process. The thread holds nothing but what the purge holds; fork waits
//             for that.
//
// It is started at a call of the program's own, and not of libc's: libc frees while it holds locks
// that pthread_create takes. While nothing is dirty it sleeps without a timer.
#pragma once

#include "shim/driver/background.hpp"

namespace aep {

namespace background {
void start(const void* caller);
}  // namespace background

/// Starts the thread if it is wanted, worth it, and `caller` (a return address) is none of those
/// to be avoided. Outside the slow path and all locks; leaves errno alone. One load as a rule.
inline void background_offer(const void* caller) {
    if (AEP_UNLIKELY(background::state.load(std::memory_order_relaxed) == background::WANTED))
        background::start(caller);
}

/// No thread is started at calls from [begin, end), code that may hold locks of libc; and none at
/// all before there is such a range. During the library's constructors only.
void background_avoid(uptr begin, uptr end);

}  // namespace aep
