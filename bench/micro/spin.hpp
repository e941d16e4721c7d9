// Purpose: waiting for another thread of a benchmark: spin for a moment, then give the processor
// away. Who calls it: the cases with several threads. Crash rule: nothing outlives the process.
#pragma once

#include <sched.h>

#include <time.h>

#include <cstdint>

namespace aep::bench {

template <class Ready>
void wait_until(Ready&& ready) {
    for (int spins = 0; !ready(); ++spins) {
        if (spins < 200) {
            __builtin_ia32_pause();
        } else {
            sched_yield();
        }
    }
}

/// CPU time of the calling thread, in seconds: waiting for a processor does not count.
inline double thread_seconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace aep::bench
