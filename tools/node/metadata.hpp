// Purpose: makes the heap metadata of chunks that nobody uses read as zero again, as their next
//          holder expects, at the cost of what was used and not of what could have been.
// Who calls it: recovery, cache decay.
// Crash rule: a chunk's descriptor goes last: until then clearing it again finds what is left.
#pragma once

#include "dsm-core/heap/arena.hpp"

namespace aep {

/// Clears the metadata of a dead client's chunks.
class ChunkCleaner {
  public:
    /// `context_fd`: the context file. The client's domain has index `client`.
    ChunkCleaner(int context_fd, u32 client) : fd_(context_fd), client_(client) {}

    /// Clears what the client's slices of the chunk have used. Linear in the pages, not in their
    /// blocks.
    void clear(u32 chunk);

  private:
    int fd_;
    u32 client_;
};

/// Gives the metadata's memory back, whatever it holds.
void punch_chunk_metadata(int context_fd, u32 chunk);

}  // namespace aep
