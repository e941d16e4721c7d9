// Purpose: a barrier in every thread that runs, so that one who does something all the time need have none of its own.
// Who calls it: BiasedLock; the client side and the completer, which register.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/lock.hpp"

namespace aep {

namespace detail {
inline constexpr long SYS_MEMBARRIER = 324;
inline constexpr long MEMBARRIER_GLOBAL_EXPEDITED = 2;
inline constexpr long MEMBARRIER_REGISTER_GLOBAL_EXPEDITED = 4;

/// membarrier(2).
inline long membarrier(long command) { return system_call(SYS_MEMBARRIER, command, 0, 0, 0); }
}  // namespace detail

/// From now on barrier_in_every_thread() is one in this process' threads, too, until it calls exec. False: the system does
/// not permit it.
inline bool take_part_in_barriers() {
    return detail::membarrier(detail::MEMBARRIER_REGISTER_GLOBAL_EXPEDITED) == 0;
}

/// When it returns, each thread of every process that takes part has had a full barrier since it was called. Cost: a few
/// microseconds, and an interrupt on each processor where one of them runs.
inline void barrier_in_every_thread() {
    if (detail::membarrier(detail::MEMBARRIER_GLOBAL_EXPEDITED) == 0) return;
    // Not permitted to this process, though to others: meanwhile each processor has been interrupted, or its thread changed.
    constexpr detail::Timespec SEVERAL_TICKS{0, 50'000'000};
    detail::nap(SEVERAL_TICKS);
}

}  // namespace aep
