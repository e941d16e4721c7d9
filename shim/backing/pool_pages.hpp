// Purpose: small or huge pages for the chunks of a pool: huge ones save a fault, or a part of a
//          commit, for each 4 KiB, but the first 4 KiB cost 2 MiB.
// Who calls it: pool_backing.cpp, joined_backing.cpp.
// Crash rule: no state but counts of this process; a chunk goes back with whatever pages it has.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Chooses the pages of a fresh run of `chunks` chunks of ours at `address`. True: huge ones, and
/// the mount gives them. Makes system calls; in one thread at a time.
bool choose_pool_pages(uptr address, u32 chunks);

/// To be called before memory at `address` is committed: the last chunk of small pages has huge
/// ones in its upper half, if a quarter of what lies before is in use by then. Any thread; one load
/// but for the first time.
void choose_pool_pages_above(uptr address);

/// Keeps count of what is committed and was not purged since: for that choice. Not exact, since a
/// range that is purged may have been committed in part only.
void note_pool_memory_used(usize bytes);
void note_pool_memory_unused(usize bytes);

}  // namespace aep
