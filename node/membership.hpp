// Purpose: this context as one of the nodes that share a pool: joins them, tells that it lives,
//          judges whether others do, recovers those that do not, leaves.
// Who calls it: the node host.
// Crash rule: whoever dies in here leaves a node that is dead, or a dead node that is not recovered
//             yet: the next one that looks finds that and goes on. Nothing is kept elsewhere.
#pragma once

#include <string>
#include <vector>

#include "dsm-core/era/flush.hpp"
#include "dsm-core/era/recovery.hpp"
#include "dsm-core/era/region.hpp"
#include "node/log.hpp"
#include "shim/backing/pool_shared.hpp"

namespace aep {

struct MembershipOptions {
    u32 node = era::NO_NODE;   // which of the pool's nodes; NO_NODE: none
    bool only_leases = false;  // the system's locks count for nothing, as between machines
    era::PoolCaches caches = era::PoolCaches::coherent;
};

class Membership {
  public:
    /// `pool` is mapped, with access to what nodes share; both outlive this.
    Membership(const PoolHere& pool, int pool_fd, const MembershipOptions& options,
               const std::string& name, Log log);

    /// Takes the node into use, after undoing what its former life left; its generation. Waits for
    /// a lease to run out. Throws NodeError (EBUSY: somebody is that node).
    u32 join();
    /// Tells who the node is, now that it has its entry in the pool: its system's locks say from
    /// now on whether it lives.
    void introduce();
    /// Goes on as the node, of a former daemon. False: others have declared it dead.
    bool continue_as(u32 generation);

    /// Says that the node lives, and recovers those that do not. How many. Nothing if it does not
    /// stand any more.
    u32 beat_and_recover(u64 now_ms);
    /// Whether nobody has declared it dead.
    bool stands() const;
    /// Other nodes that live, as far as their words say.
    u32 others() const;
    /// Gives up all that the node has: it is free. Nobody of it lives.
    void leave();

    u32 node() const { return options_.node; }
    u32 generation() const { return generation_; }
    u64 lease_ms() const { return pool_.file.superblock.terms.lease_ms; }
    const era::Tables& tables() const { return tables_; }
    /// Words of dead nodes that recovery has skipped because no sound node wrote them.
    u64 damaged() const { return damaged_; }

  private:
    /// What was seen of another node, to know how long it has been silent.
    struct Sign {
        u64 word = 0, beat = 0;
        u64 since_ms = 0;
    };
    bool is_dead(u32 node, u64 now_ms);
    bool was_silent(u32 node, u64 now_ms);
    bool is_told_by_locks(u32 node) const;
    void make_present();
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
    u8 boot_id_[16];
    std::vector<Sign> signs_;
};

}  // namespace aep
