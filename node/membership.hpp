// Purpose: this context as one of the nodes that share a pool: joins them, tells that it lives,
//          judges whether others do, recovers those that do not, leaves.
// Who calls it: the node host.
// Crash rule: whoever dies in here leaves a node that is dead, or a dead node that is not recovered
//             yet: the next one that looks finds that and goes on. Nothing is kept elsewhere.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "dsm-core/era/flush.hpp"
#include "dsm-core/era/recovery.hpp"
#include "dsm-core/era/region.hpp"
#include "node/liveness.hpp"
#include "node/log.hpp"
#include "shim/backing/pool_shared.hpp"

namespace aep {

struct MembershipOptions {
    u32 node = era::NO_NODE;  // which of the pool's nodes; NO_NODE: none
    MembershipKind kind = MembershipKind::automatic;
    MembershipEngine* engine = nullptr;  // with MembershipKind::engine; outlives the host
    /// How lines of the pool reach it; a member of a pool has one (write_back.hpp).
    std::optional<era::PoolCaches> caches;
};

class Membership {
  public:
    /// `pool` is mapped, with access to what nodes share; both outlive this.
    Membership(const PoolHere& pool, int pool_fd, const MembershipOptions& options,
               const std::string& name, Log log);

    /// Takes the node into use, after undoing what its former life left; its generation. Waits for
    /// a lease to run out. Throws NodeError (EBUSY: somebody is that node, or it is not known
    /// whether he is dead).
    u32 join();
    /// Tells who the node is, now that it has its entry in the pool: its system's locks say from
    /// now on whether it lives. Throws NodeError: a node of another machine came at the same time, and must not be there.
    void introduce();
    /// Goes on as the node, of a former daemon. False: others have declared it dead.
    bool continue_as(u32 generation);

    /// Says that the node lives, and recovers those that are known to be dead. How many. Nothing if
    /// it does not stand any more.
    u32 beat_and_recover(u64 now_ms);
    /// Whether nobody has declared it dead.
    bool stands() const;
    /// Other nodes that live, as far as their words say.
    u32 others() const;
    /// Somebody has cut node `node` off (from 0 on): the next beat_and_recover() recovers it. Why not;
    /// empty: so it is.
    std::string declare_dead(u32 node, u32 generation, u64 now_ms) {
        return liveness_.declare_cut_off(node, generation, now_ms);
    }
    /// Whether what nodes share may be changed by this one: it is on the side that goes on.
    bool has_quorum() const { return options_.engine == nullptr || options_.engine->has_quorum(); }
    /// "live", "suspect", "fenced" (known to be cut off, about to be recovered) or "dead" (being recovered), as of the last
    /// beat; of the own node "live" or "fenced".
    const char* state_of(u32 node) const;
    /// Whether it is silent, and not known to be dead, as of the last beat.
    bool is_suspect(u32 node) const {
        return node != options_.node && era::is_live(tables_, node) &&
               standing_of(node) == NodeStanding::suspect;
    }
    u64 silent_ms(u32 node, u64 now_ms) const { return liveness_.silent_ms(node, now_ms); }
    /// Who says that nodes are dead: "lock", "manual", or the engine's name.
    const char* engine_name() const;
    /// Gives up all that the node has: it is free. Nobody of it lives.
    void leave();

    u32 node() const { return options_.node; }
    u32 generation() const { return generation_; }
    u64 lease_ms() const { return pool_.file.superblock.terms.lease_ms; }
    const era::Tables& tables() const { return tables_; }
    /// Words of dead nodes that recovery has skipped because no sound node wrote them.
    u64 damaged() const { return damaged_; }

  private:
    void make_present();
    void end_former_life();
    void refuse_former(Former former) const;
    void refuse_other_machines() const;
    std::string how_to_end(u32 node) const;
    bool recover(u32 node);
    /// What was said of a former life is not said of the node.
    NodeStanding standing_of(u32 node) const {
        const Seen& seen = seen_[node];
        return seen.word == tables_.node(node).load() ? seen.standing : NodeStanding::live;
    }
    void say(u32 node, NodeStanding before, NodeStanding now);
    era::Disposal disposal();
    void note(const era::Damage& damage);
    template <class F>
    auto with_memory(F&& f);

    const PoolHere& pool_;
    int pool_fd_;
    MembershipOptions options_;
    std::string name_;
    Log log_;
    era::Tables tables_;
    u32 generation_ = 0;
    u64 damaged_ = 0;
    Liveness liveness_;
    /// As of the last beat.
    struct Seen {
        u64 word = 0;
        NodeStanding standing = NodeStanding::live;
    };
    std::vector<Seen> seen_;
};

}  // namespace aep
