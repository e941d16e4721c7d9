// Purpose: a backing that does everything a backing may do to the allocator, and some of it often:
// refuses chunks and
//          commits, leaves holes between chunks, hands out chunks full of old bytes, fails to purge
//          or to release.
// Who calls it: the property tests, the fuzz target.
// Crash rule: its memory dies with the process.
//
// Memory that was not committed (or was purged since) is not accessible: a use of it is a signal at
// the very access.
#pragma once

#include "shim/backing/backing.hpp"

namespace aep::test {

/// How hostile it is; each a chance in 256. Changeable at any time.
struct Hostility {
    u32 refuse_chunks = 0;
    u32 refuse_commit = 0;
    u32 holes = 0;
    u32 dirty_chunks = 0;
    u32 coarse_chunks = 0;
    u32 fail_purge = 0;
    u32 fail_release = 0;
    u32 max_chunks_held = 64;  // no more than that at a time
    u64 seed = 1;
};
extern Hostility hostility;

/// What it was asked for, so that a test can see that its bad sides were met.
struct HostileCounts {
    u64 provided, refused, committed, commits_refused, purged, purges_failed, released,
        releases_failed;
    u32 chunks_held;
};
extern HostileCounts hostile_counts;

const Backing* hostile_backing();

}  // namespace aep::test
