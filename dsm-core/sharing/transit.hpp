// Purpose: what the operations between nodes have in common: a lane for a transaction, the pin that
//          keeps an export while the lock is not held.
// Who calls it: away.cpp, away_ends.cpp.
// Crash rule: a lane names the slot that is in it, and a slot what it has pinned: settle_lanes() and
//             finish_away() put right what a dead slot left of either.
#pragma once

#include "dsm-core/era/mailbox.hpp"
#include "dsm-core/sharing/disposal.hpp"

namespace aep {

/// Whether the node has no quorum: others may be about to declare it dead, and nothing of it is to cross nodes.
inline bool is_apart() { return context().apart.load(std::memory_order_acquire) != 0; }

/// Lanes that operations take turns in: all but the last one, which is the membership's.
inline u32 lanes_of(const era::Tables& t) {
    return (t.shape.lanes < MAX_LANES ? t.shape.lanes : MAX_LANES) - 1;
}

/// One of the node's lanes for a scope. Nobody holds one for longer than a transaction takes; of a
/// slot that is killed in it, it is freed by whoever completes the operation, or settle_lanes().
class LaneTurn {
  public:
    LaneTurn(const era::Tables& t, Caller caller) {
        const u32 lanes = lanes_of(t);
        for (u32 i = caller.client;; ++i) {
            std::atomic<u32>& taken = lane_taken(i % lanes);
            u32 nobody = 0;
            // acquire: its former user has retired the lane's record.
            if (taken.load(std::memory_order_relaxed) == 0 &&
                taken.compare_exchange_strong(nobody, caller.slot + 1, std::memory_order_acquire)) {
                lane = i % lanes;
                return;
            }
            __builtin_ia32_pause();
        }
    }
    ~LaneTurn() { lane_taken(lane).store(0, std::memory_order_release); }
    LaneTurn(const LaneTurn&) = delete;
    LaneTurn& operator=(const LaneTurn&) = delete;

    u32 lane = 0;
};

/// Calls f(lane) in a transaction lane of the node.
template <class F>
era::Status in_lane(const era::Tables& t, Caller caller, F&& f) {
    const LaneTurn turn(t, caller);
    return with_pool_memory([&](auto& memory) {
        era::Lane lane(memory, t, context().era_node, turn.lane, era_standing());
        return f(lane);
    });
}

inline Status status_of(era::Status status) {
    switch (status) {
        case era::Status::ok:
            return Status::ok;
        case era::Status::fenced:
            fence_context();
            return Status::fenced;
        case era::Status::full:
            return Status::full;
        case era::Status::too_many:
            return Status::limit;
        default:
            return Status::gone;
    }
}

/// Between the steps of an operation the export is its slot's: who is killed then is found by that. Under its lock.
void pin(u32 slot, u32 index);
/// The export is no longer the slot's, and is disposed of if nobody refers to it. With the locks of lock_pinned(). False: given up.
[[nodiscard]] bool unpin(Turn& turn, Caller caller, u32 slot, u32 index);
/// Takes the locks under which the export can be unpinned, whatever becomes of it; and those of `locks`.
Locked lock_pinned(Turn& turn, Caller caller, u32 index, LockList& locks);

/// What another node tells of an object of its own, each word read once.
struct ObjectFacts {
    u64 address, bytes, head, head_bytes;
};
ObjectFacts facts_of(const era::Tables& t, u32 object);
/// The stripes that learn() needs.
void add_locks_to_learn(const ObjectFacts& facts, LockList& locks);
/// The node has its first reference to an object of another one, of which that one tells this.
/// False: nothing that could be believed; nobody gets the object. Under its lock; a supply for one export.
bool learn(u32 client, const ObjectFacts& facts, u32 index);

}  // namespace aep
