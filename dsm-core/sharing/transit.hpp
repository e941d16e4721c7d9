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

/// An export that a slot's operation keeps between its steps, when nothing is locked. The tables say so: who is killed with one is
/// found by that (pin_of), and finish_away() takes it on.
class Pin {
  public:
    Pin() = default;
    /// Pins it for the caller's slot. Under its lock.
    Pin(Caller caller, u32 index);
    /// Takes on what a dead slot has pinned.
    static Pin of_dead_slot(Caller caller, u32 slot, u32 index) { return {caller, slot, index}; }
    Pin(Pin&& other) noexcept : Pin(other.caller_, other.slot_, other.index_) {
        other.index_ = NO_RECORD;
    }
    Pin& operator=(Pin&& other) noexcept;
    /// Lets go of it, if release() has not.
    ~Pin();

    u32 index() const { return index_; }
    /// Takes the locks under which it can be let go of, whatever becomes of it; and those of `locks`. `prepare()` is called under those
    /// of clients and inboxes, perhaps several times. False: given up, by prepare() or else.
    template <class Prepare>
    [[nodiscard]] bool lock(Turn& turn, LockList& locks, Prepare&& prepare) const {
        locks.add_client(0);
        locks.add_client(caller_.client);
        const auto find = [&](u32& found, u32& count) {
            found = index_;
            count = 0;
            return prepare();
        };
        return lock_to_release(turn, caller_.client, locks, false, find) == Locked::yes;
    }
    [[nodiscard]] bool lock(Turn& turn, LockList& locks) const;
    /// The export is no longer the slot's, and is disposed of if nobody refers to it. With the locks of lock(). False: given up.
    [[nodiscard]] bool release(Turn& turn);

  private:
    Pin(Caller caller, u32 slot, u32 index) : caller_(caller), slot_(slot), index_(index) {}

    Caller caller_{};
    u32 slot_ = 0;
    u32 index_ = NO_RECORD;
};

/// What another node tells of an object of its own, each word read once.
struct ObjectFacts {
    u64 address, bytes, head, head_bytes;
};
ObjectFacts facts_of(const era::Tables& t, u32 object);
/// The stripes that learn() needs.
void add_locks_to_learn(const ObjectFacts& facts, LockList& locks);
/// Whether what this node knew there is being given up, the group's root or the object: its home may have used the memory again
/// already, but the operation that has dropped the node's reference has not forgotten it yet. It is about to. With those stripes.
bool is_being_given_up(const ObjectFacts& facts);
/// The node has its first reference to an object of another one, of which that one tells this.
/// False: nothing that could be believed; nobody gets the object. Under its lock; a supply for one export.
bool learn(u32 client, const ObjectFacts& facts, u32 index);

}  // namespace aep
