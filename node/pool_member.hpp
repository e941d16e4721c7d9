// Purpose: the context as one of the nodes that share a pool, or as none of them: enters with a new
//          context, goes on with an old one, leaves.
// Who calls it: whoever opens a context; the node host and its parts ask who the member is.
// Crash rule: see membership.hpp.
#pragma once

#include <memory>

#include "node/membership.hpp"
#include "node/node_pool.hpp"

namespace aep {

class PoolMember {
  public:
    /// `pool` and `log` outlive it.
    PoolMember(const NodeOptions& options, NodePool& pool, const Log& log)
        : options_(options.nodes), name_(options.paths.name), pool_(pool), log_(log) {}

    /// Which of the pool's nodes a new context is to be; NO_NODE: none.
    u32 wanted() const { return options_.node; }
    /// Becomes the node that is asked for; the context is new and says which one it is to be.
    /// Others know nothing of it but its beat until it is introduced. Throws NodeError.
    void enter();
    /// Goes on as the node that the context is. False: others have declared it dead, or, while
    /// nobody lives in it, it is to be another one. Throws NodeError where somebody does.
    bool go_on(bool lives);
    /// Gives up all that the node has, unless others have taken it.
    void leave();

    /// Null: the context is no node.
    Membership* membership() { return membership_.get(); }
    const Membership* membership() const { return membership_.get(); }
    /// How often it must give a sign of life, at least.
    u64 period_ms() const;

  private:
    void become();

    MembershipOptions options_;
    std::string name_;  // of the context
    NodePool& pool_;
    const Log& log_;
    std::unique_ptr<Membership> membership_;
};

}  // namespace aep
