// Purpose: the part of a sweep that concerns the pool's other nodes: says that ours lives, recovers
//          dead ones, gives up references that linger, frees chunks that dead nodes' objects kept.
// Who calls it: the node host's sweep.
// Crash rule: see membership.hpp and kept_chunks.hpp; what lingers is settled by operations.
#pragma once

#include "node/chunk_cache.hpp"
#include "node/host_slot.hpp"
#include "node/pool_member.hpp"
#include "node/sweep.hpp"

namespace aep {

class NodeUpkeep {
  public:
    /// All of them outlive it.
    NodeUpkeep(PoolMember& member, HostSlot& host_slot, const NodePool& pool, ChunkCache& cache,
               const Log& log)
        : member_(member), host_slot_(host_slot), pool_(pool), cache_(cache), log_(log) {}

    /// Adds what it did to `done`. Nothing where the context is no node.
    void look_after(u64 now_ms, Sweep& done);

  private:
    void set_apart(bool apart);
    bool settle_lingering();
    static bool drain(const era::Tables& tables, u32 node);
    u32 next_ring() const;

    PoolMember& member_;
    HostSlot& host_slot_;
    const NodePool& pool_;
    ChunkCache& cache_;
    const Log& log_;
    u32 ring_ = 0;  // of which node, to be looked at whole in the sweep that is under way
};

}  // namespace aep
