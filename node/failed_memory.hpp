// Purpose: memory of the pool that cannot be read any more: the chunk in which it lies goes to
//          nobody, until nobody has it and it has been cleaned and can be read as a whole.
// Who calls it: the node host's sweep; the log of events, by which clients tell.
// Crash rule: what is known of it dies with the daemon: whoever touches that memory tells the next
//             one. A chunk that was taken out is in the state of one that is being returned, and
//             the next daemon tries that again.
#pragma once

#include <map>

#include "node/chunk_cache.hpp"
#include "node/log.hpp"

namespace aep {

class FailedMemory {
  public:
    /// All of them outlive it.
    FailedMemory(const NodePool& pool, ChunkCache& cache, const Log& log)
        : pool_(pool), cache_(cache), log_(log) {}

    /// A client says that memory at that address has failed: believed only if the pool's file does
    /// not give it here either. Of a device nothing is believed: only its client's end is told.
    void note(u64 address);

    /// Chunks of them that nobody has any more are cleaned, and given back if that mends them. How
    /// many have been. Before the cache gives any back, and before clients find them in it.
    u32 look_after();

    /// Bytes of chunks that are kept from everybody.
    u64 retired_bytes() const;

  private:
    enum class Fate { used, retired };  // by whoever has it yet; nobody's for good
    bool can_be_read(u32 chunk) const;

    const NodePool& pool_;
    ChunkCache& cache_;
    const Log& log_;
    std::map<u32, Fate> chunks_;
};

}  // namespace aep
