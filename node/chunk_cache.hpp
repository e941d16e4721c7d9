// Purpose: the node's cache of chunks, and their way from there back to the pool: when nobody has
//          used them for a while, or other nodes find nothing.
// Who calls it: the node host's sweep, removal of the context; KeptChunks.
// Crash rule: announced in the context first, free in the pool second, nobody's in the context
//             last: what says "returning" is done again from wherever it stopped.
#pragma once

#include <vector>

#include "node/node_pool.hpp"
#include "node/served_context.hpp"

namespace aep {

class ChunkCache {
  public:
    /// Of the context that is mapped. Both outlive it. `decay_ms`: how long a chunk stays unused.
    ChunkCache(const ServedContext& served, const NodePool& pool, u64 decay_ms);

    /// Gives a chunk back that is in the cache, or was on its way already; to the pool, or, if memory in it has failed, to
    /// nobody. False: it is not.
    bool give_back(u32 chunk);
    /// Gives chunks back that were unused for so long, some milliseconds' worth at a time so that
    /// nobody waits long to be let in; or all. How many.
    u32 give_back_unused(u64 now_ms, bool all);
    /// Chunks that were on their way when a former host died arrive.
    void finish_returns();
    /// Puts the count of cached chunks right, if nobody changes it meanwhile: a thread that was
    /// killed left it wrong.
    void recount();

  private:
    /// Takes one out of the cache, so that no client gets it. False: it is not in it.
    bool take_out(u32 chunk);
    /// Whether the pool says that it is this node's.
    bool is_ours(u32 chunk) const;
    bool pool_is_short() const;

    const ServedContext& served_;
    const NodePool& pool_;
    const u64 decay_ms_;
    std::vector<u64> cached_since_;  // a chunk: when a look first saw it there, in ms; 0: not
};

}  // namespace aep
