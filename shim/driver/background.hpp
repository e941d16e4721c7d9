// Purpose: the thread that gives freed memory back to the system although the program calls nothing
//          (AEP_BACKGROUND=1).
// Who calls it: process.cpp after each operation, allocator.cpp and preload/ where a thread may be
//               started, the fork hooks.
// Crash rule: private to the process. The thread holds nothing but what the purge holds; fork waits
//             for that, and the child starts a thread of its own when it first has memory to give.
//
// It is started at a call of the program's own, and not of libc's: libc frees while it holds locks
// that pthread_create takes. While nothing is dirty it sleeps without a timer.
#pragma once

#include <atomic>

#include "dsm-core/base/types.hpp"

namespace aep {

namespace background {

enum State : u32 {
    OFF,     // not wanted, or refused
    WANTED,  // not started yet
    AWAKE,   // looks again by itself; also while it is being started
    ASLEEP,  // until it is woken
};
extern std::atomic<u32> state __attribute__((visibility("hidden")));

void wake();
void start(const void* caller);

}  // namespace background

/// Whether a thread sees to the purging.
inline bool background_serves() {
    return background::state.load(std::memory_order_relaxed) >= background::AWAKE;
}

/// To be called after an operation that may have given memory back, with the time when purging is
/// next due (Decay::NEVER: nothing is dirty), and after a page was queued to its owner. Any thread,
/// signal handlers too. One load as a rule.
inline void background_notice(u64 next_purge) {
    if (AEP_UNLIKELY(background::state.load(std::memory_order_relaxed) == background::ASLEEP) &&
        next_purge != ~u64{0}) {
        background::wake();
    }
}

/// Starts the thread if it is wanted, worth it, and `caller` (a return address) is none of those
/// to be avoided. Outside the slow path and all locks; leaves errno alone. One load as a rule.
inline void background_offer(const void* caller) {
    if (AEP_UNLIKELY(background::state.load(std::memory_order_relaxed) == background::WANTED)) {
        background::start(caller);
    }
}

/// No thread is started at calls from [begin, end), code that may hold locks of libc; and none at
/// all before there is such a range. During the library's constructors only.
void background_avoid(uptr begin, uptr end);

/// At the process's start: whether a thread is wanted.
void background_enable(bool wanted);

/// In a fork child, which has no such thread.
void background_forget();

}  // namespace aep
