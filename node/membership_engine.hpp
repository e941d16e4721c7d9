// Purpose: who knows, between machines, whether a node that is silent has been cut off from the pool:
//          what membership asks of an engine that clusters run on. And how a node stands.
// Who calls it: liveness.cpp, membership.cpp; the daemon's plugs implement it.
// Crash rule: no state in the pool: an engine that is started anew learns all of it again.
#pragma once

#include <string>

#include "dsm-core/pool/format.hpp"

namespace aep {

/// How a node stands that has not been recovered.
enum class NodeStanding : u8 {
    live,
    suspect,  // it may be dead, and may be at work: waited for
    fenced,   // it has ended, or is cut off: it changes nothing of the pool any more
};

/// Another node, as the pool shows it.
struct OtherNode {
    u32 node = 0;  // from 0 on
    u32 generation = 0;
    std::string name;     // of its context
    u64 silent_ms = 0;    // since when its beat has stayed the same, as far as it was looked at
    bool silent = false;  // for a lease or longer
};

class MembershipEngine {
  public:
    virtual ~MembershipEngine() = default;
    virtual const char* name() const = 0;
    /// Whether this node is on the side that may go on. While it is not, its clients share nothing
    /// with other nodes, and it recovers nobody.
    virtual bool has_quorum() = 0;
    /// Asked with each sweep for each other node that is not free. Never waits.
    virtual NodeStanding judge(const OtherNode& other, u64 now_ms) = 0;
    /// Before anything else: the pool that it is about, and whether its terms go with the engine's.
    /// Throws NodeError.
    virtual void begin(const Superblock& pool) = 0;
    /// Readable when on_event() is to be called.
    virtual int event_fd() const = 0;
    virtual void on_event() = 0;
};

}  // namespace aep
