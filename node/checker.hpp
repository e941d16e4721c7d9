// Purpose: the walk over a context that is in use: header, clients, slots, chunk owners against the
//          pool's table, metadata that must be clear, counters; and the pool's own walk.
// Who calls it: `aep check` through the daemon, tests.
// Crash rule: reads only.
#pragma once

#include "node/findings.hpp"
#include "node/heap_verifier.hpp"
#include "node/pool_member.hpp"

namespace aep {

class Checker {
  public:
    /// All of them outlive it.
    Checker(const ServedContext& served, const NodePool& pool, const PoolMember& member,
            const HeapVerifier& verifier)
        : served_(served), pool_(pool), member_(member), verifier_(verifier) {}

    /// Walks all invariants that can be checked while clients run, for so long at most: what is
    /// damaged may have no end, and somebody may wait to be let in.
    std::vector<Finding> check(u64 longest_ns) const;

  private:
    void check_chunk(u32 chunk, Findings& found) const;
    void check_pool(Findings& found) const;
    void check_verdicts(Findings& found) const;

    const ServedContext& served_;
    const NodePool& pool_;
    const PoolMember& member_;
    const HeapVerifier& verifier_;
};

}  // namespace aep
