// Purpose: what a walk of the heap's invariants finds.
// Who calls it: the walks (check.hpp), and whoever asks for one.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// The first broken invariant that a check met, and what it counted on the way.
struct CheckReport {
    const char* broken = nullptr;  // null: all is well
    const char* kind = "";         // what `object` is the address of
    uptr object = 0;               // memory of the chunk, page, run or block; or the heap itself
    u64 found = 0;                 // the two values that differ, where there are such
    u64 expected = 0;

    u64 chunks = 0;       // check_domain: held chunks,
    u64 pages = 0;        // pages of all heaps,
    u64 live_blocks = 0;  // blocks handed out on them, with those that wait for remote collection,
    u64 remote_marks = 0;
    u64 large_objects = 0;
    u64 reserved_runs = 0;     // taken, and neither page nor object yet
    u64 withdrawn_slices = 0;  // taken out of the arena by a purge that has not ended
};

/// What the caller knows of the moment of a full walk.
enum class CheckMoment {
    idle,      // no operation is open anywhere: reserved runs and withdrawn slices are losses
    underway,  // the only thread that uses the domain is between two steps of the driver
};

}  // namespace aep
