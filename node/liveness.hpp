// Purpose: whether another node of the pool lives, as far as can be known here. Silence makes a node
//          suspect and no more: what tells that it is dead is a lock of this system, a membership
//          engine, or somebody who has cut it off and says so.
// Who calls it: membership.cpp.
// Crash rule: reads only; what it remembers begins anew with the process.
#pragma once

#include <vector>

#include "dsm-core/era/region.hpp"
#include "node/membership_engine.hpp"
#include "shim/backing/pool_shared.hpp"

namespace aep {

/// Who says that a node is dead.
enum class MembershipKind : u8 {
    automatic,  // of nodes of this system's boot the locks, of others people
    lock,       // the locks: all nodes are of one system
    manual,     // people; the locks count for nothing, as if each node were another machine's
    engine,     // a MembershipEngine, or people
};

/// What is known of the former life of this daemon's own node.
enum class Former : u8 {
    dead,
    locked,   // its daemon or clients of it live here
    beating,  // it gives signs of life
    unknown,  // silent, and another machine's
    waited,   // too early to say
};

class Liveness {
  public:
    /// `pool`, `engine` (with MembershipKind::engine) and the tables outlive it. `own`: this node.
    Liveness(const PoolHere& pool, int pool_fd, const era::Tables& tables, u32 own,
             MembershipKind kind, MembershipEngine* engine);

    /// How node `i` stands, which is not free and another than this one.
    NodeStanding judge(u32 i, u64 now_ms);
    /// Of the own node, while its word is not free. This daemon holds its daemon's lock.
    Former judge_former(u64 now_ms);
    /// Somebody has cut node `i` off in that generation: it is judged fenced from now on. Why that
    /// cannot be; empty: it is so.
    std::string declare_cut_off(u32 i, u32 generation, u64 now_ms);
    /// For how long it has given no sign of life.
    u64 silent_ms(u32 i, u64 now_ms) const;
    /// Whether node `i` said who it is, and is another system's, or that of a former boot.
    bool is_elsewhere(u32 i) const;

    const u8 (&boot_id() const)[16] { return boot_id_; }
    /// This machine's /etc/machine-id, hashed; 0: it has none.
    u64 machine() const { return machine_; }

  private:
    /// What was seen of a node, to know how long it has been silent.
    struct Sign {
        u64 word = 0, beat = 0;
        u64 since_ms = 0;    // 0: never looked at
        bool beats = false;  // it has changed since it was looked at first
        u32 cut_off = 0;     // the generation that somebody has cut off; 0: none
    };
    bool watch(u32 i, u64 now_ms);
    bool is_introduced(u32 i) const;
    bool is_of_this_boot(u32 i) const;
    bool has_lock_here(u32 i) const;
    bool is_judged_by_lock(u32 i) const;
    bool is_locked(u32 i) const;

    const PoolHere& pool_;
    int pool_fd_;
    const era::Tables& tables_;
    u32 own_;
    MembershipKind kind_;
    MembershipEngine* engine_;
    bool of_one_system_;  // no other machine can map the pool's memory
    u8 boot_id_[16];
    u64 machine_;
    std::vector<Sign> signs_;
};

/// Byte of the pool file that the daemon of node 0 locks; node i's is i further.
inline constexpr u64 DAEMON_LOCKS_OFFSET = u64{1} << 59;

}  // namespace aep
