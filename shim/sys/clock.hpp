// Purpose: the time that the heap's decay goes by.
// Who calls it: the slow path; libc_symbols.cpp says which clock.
// Crash rule: no state but the choice.
#pragma once

#include <time.h>

#include "dsm-core/base/types.hpp"

namespace aep {

using ClockFunction = int(clockid_t, timespec*);

/// From now on that is the clock, whose signature is clock_gettime's; null, as at the start: the
/// system call. The one that a call of clock_gettime ends in may be a sanitizer's, which is not
/// ready when the loader asks for memory.
void use_clock(ClockFunction* function);

/// Milliseconds of a coarse monotonic clock.
u64 now_ms();

}  // namespace aep
