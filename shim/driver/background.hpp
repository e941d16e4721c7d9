// Purpose: whether a thread gives freed memory back although the program calls nothing
//          (AEP_BACKGROUND=1), and waking it; the thread itself is in background_thread.hpp.
// Who calls it: transact.cpp after each operation, purging.cpp, process.cpp at the start, fork.
// Crash rule: private to the process. A fork child starts a thread of its own when it first has
//             memory to give.
#pragma once

#include <atomic>

#include "dsm-core/base/lock.hpp"

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
        next_purge != ~u64{0})
        background::wake();
}

/// At the process's start: whether a thread is wanted.
void background_enable(bool wanted);

/// In a fork child, which has no such thread.
void background_forget();

}  // namespace aep
