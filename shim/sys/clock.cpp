// Purpose: see clock.hpp.
// Who calls it: see clock.hpp.
// Crash rule: no state but the choice.
#include "shim/sys/clock.hpp"

#include <atomic>

#include "shim/sys/syscall.hpp"

namespace aep {

namespace {

/// clock_gettime without a system call; null: not yet known.
std::atomic<ClockFunction*> clock_function{nullptr};

}  // namespace

void use_clock(ClockFunction* function) {
    // relaxed: either clock is right, and the function needs nothing that this publishes.
    clock_function.store(function, std::memory_order_relaxed);
}

u64 now_ms() {
    timespec t{};
    if (ClockFunction* clock = clock_function.load(std::memory_order_relaxed))
        clock(CLOCK_MONOTONIC_COARSE, &t);
    else
        sys::call(__NR_clock_gettime, CLOCK_MONOTONIC_COARSE, sys::word(&t));
    return static_cast<u64>(t.tv_sec) * 1000 + static_cast<u64>(t.tv_nsec) / 1'000'000;
}

}  // namespace aep
