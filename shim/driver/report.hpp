// Purpose: what is said and done about a free of something that is not a live block.
// Who calls it: shim/driver/deallocate.cpp, shim/driver/outside.cpp, shim/driver/reallocate.cpp, shim/driver/process.cpp.
// Crash rule: the heap is unchanged when a report is made.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

enum class BadFree : u8 {
    not_live,  // freed before, or never allocated
    twice,     // certainly freed twice
    interior,  // inside a block or page, not at a block's start
    foreign,   // not memory of ours
};

/// Prints one line (the pointer, what is wrong, the size class of its page) and aborts, or counts
/// it (AEP_ON_ERROR=ignore).
void report_bad_free(uptr address, BadFree what);

/// What follows the report of a bad free: the end of the process, or it is counted.
void after_bad_free();

/// How many bad frees were ignored.
u64 bad_free_count();

}  // namespace aep
