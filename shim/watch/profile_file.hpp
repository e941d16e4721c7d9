// Purpose: the heap profile of this process: in a file, and as a report of what lives at its end.
// Who calls it: preload/watching.cpp: at exit, and in a signal handler.
// Crash rule: a kill leaves a part of a file.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Writes PREFIX.PID.NUMBER.heap, with the first number that there is no file of, mode 0600. False, with a message: it
/// cannot be written. System calls only; async-signal-safe.
bool write_profile_file(const char* prefix);

/// A message for each call stack of which sampled blocks live, the largest first, at most 20, and a sum of all.
void report_leaks();

}  // namespace aep
