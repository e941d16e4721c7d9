// Purpose: makes the heap metadata of chunks that nobody uses read as zero again, as their next
//          holder expects, at the cost of what was used and not of what could have been.
// Who calls it: recovery, cache decay.
// Crash rule: a chunk's descriptor goes last: until then clearing it again finds what is left.
#pragma once

#include "dsm-core/heap/arena.hpp"

namespace aep {

/// Clears what client `client`, which is dead, has used of the chunk's metadata in the context
/// file. Linear in the pages, not in their blocks; a few system calls, which make no memory
/// present. Whether its memory comes in large pieces, as the client said: a hint.
bool clear_chunk_metadata(int context_fd, u32 client, u32 chunk);

/// Gives the memory of a part of the file back: it reads as zero. False with errno.
bool punch_range(int context_fd, u64 at, u64 bytes);

/// Gives the memory of a slot's stack and of its log back: nobody is on it, and nothing is to be undone.
void punch_stack(int context_fd, u32 slot);

/// Gives the metadata's memory back, whatever it holds.
void punch_chunk_metadata(int context_fd, u32 chunk);

}  // namespace aep
