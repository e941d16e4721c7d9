// Purpose: waiting for another thread of a benchmark: spin for a moment, then give the processor
// away. Who calls it: the cases with several threads. Crash rule: nothing outlives the process.
#pragma once

#include <sched.h>

#include <time.h>

#include <cstdint>

namespace aep::bench {

template <class Ready>
void wait_until(Ready&& ready) {
    for (int spins = 0; !ready(); ++spins)
        if (spins < 200)
            __builtin_ia32_pause();
        else
            sched_yield();
}

/// Binds the calling thread to the n-th processor it may run on, so that two threads always meet
/// across caches; with too few processors it stays as it is.
inline void bind_to_processor(int n) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) <= n) return;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (CPU_ISSET(cpu, &allowed) && n-- == 0) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof one, &one);
            return;
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
