// Purpose: memory of the pool that has failed: the chunk in which it lies is marked in the pool's
//          table, for all nodes; given back it goes to nobody, in a file until it has got other
//          memory, on a device for good.
// Who calls it: the node host's sweep; the log of events, by which clients tell.
// Crash rule: the mark is in the pool. A chunk that is being mended is in the state of one that is
//             being returned, and marked: the next daemon retires it again, and tries anew.
#pragma once

#include "node/chunk_cache.hpp"
#include "node/log.hpp"

namespace aep {

class FailedMemory {
  public:
    /// All of them outlive it.
    FailedMemory(const NodePool& pool, ChunkCache& cache, const Log& log)
        : pool_(pool), cache_(cache), log_(log) {}

    /// A client says that the system has sent it SIGBUS with that code for that address. Of a file it is believed if memory
    /// there cannot be read here either. Of a device, if the client says that the machine reported it: to look would be to
    /// ask for another report, and what a client spoils by a lie is its tenant's.
    void note(u64 address, int code);

    /// Chunks that are nobody's for what has failed in them, of a file, are cleaned, and given back if that mends them. How
    /// many have been. Says when there are more than it knew. Cost: a look at each chunk's word.
    u32 look_after();

  private:
    bool has_failed(u64 page, int code) const;
    bool mend(u32 chunk);
    bool can_be_read(u32 chunk) const;
    bool is_device() const { return pool_.file().memory == PoolMemory::device; }

    const NodePool& pool_;
    ChunkCache& cache_;
    const Log& log_;
    u32 told_ = 0;  // chunks of which the log has said that they are retired
};

}  // namespace aep
