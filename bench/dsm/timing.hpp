// Purpose: clocks, medians, and how a figure is printed: one line, its name and its value.
// Who calls it: the programs of this folder.
// Crash rule: nothing outlives the process.
#pragma once

#include <time.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace aep::bench {

inline double clock_ns(clockid_t clock) {
    timespec t{};
    clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}
/// The monotonic clock: for batches of less than a time slice, of which the median is taken, and
/// for what several processors do together.
inline double now_ns() { return clock_ns(CLOCK_MONOTONIC); }
/// Processor time of this thread, or process: for long work, so that neighbours do not count.
inline double thread_ns() { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }
inline double process_ns() { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

/// The time stamp counter, after everything before it is done.
inline std::uint64_t ticks() {
    unsigned processor = 0;
    const std::uint64_t now = __rdtscp(&processor);
    _mm_lfence();
    return now;
}

/// 0 for no values.
inline double median(std::vector<double> values) {
    if (values.empty()) return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

inline void print(const char* name, double value) { std::printf("%s %.6g\n", name, value); }

/// A benchmark that goes on after an error would measure nothing.
[[noreturn]] inline void give_up(const char* what) {
    std::fprintf(stderr, "bench: %s\n", what);
    std::exit(1);
}

inline void expect(bool good, const char* what) {
    if (!good) [[unlikely]]
        give_up(what);
}

}  // namespace aep::bench
