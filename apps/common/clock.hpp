// Purpose: the clock, medians, and the processor that a member of a team runs on.
// Who calls it: the applications.
// Crash rule: no state.
#pragma once

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <vector>

namespace aep::apps {

/// The monotonic clock, ns.
inline double now_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

/// The value that `share` (0 to 1) of all do not exceed; 0 of none.
inline double quantile(std::vector<double>& values, double share) {
    if (values.empty()) return 0;
    const auto at = values.begin() +
                    static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), at, values.end());
    return *at;
}

/// Binds the calling thread to the `n`-th processor that it may use, counted round.
inline void bind_to_processor(unsigned n) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    n %= static_cast<unsigned>(CPU_COUNT(&allowed));
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed) || n-- != 0) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

}  // namespace aep::apps
