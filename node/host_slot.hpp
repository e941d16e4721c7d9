// Purpose: operations that the host performs for dead clients, in a slot of its own, one at a time.
// Who calls it: recovery, for what must not be left half done or locked; the care for other nodes.
// Crash rule: the slot has an owner before anything else of an operation is written, and none again
//             after its reply is read. A host that finds it even has nothing to finish: either
//             nothing had begun, or it has ended. A host that finds it odd completes it like any
//             other slot of that client.
#pragma once

#include <functional>

#include "node/protection.hpp"
#include "node/slot_undo.hpp"

namespace aep {

/// How far an operation of the host's is.
enum class Performed {
    done,     // the reply is there
    pending,  // ask again after the next event, or with the next sweep
    failed,   // the context is poisoned
};

class HostSlot {
  public:
    /// All of them outlive it.
    HostSlot(const ServedContext& served, const Protection& protection, const SlotUndo& undo,
             const Log& log)
        : served_(served), protection_(protection), undo_(undo), log_(log) {}

    /// Performs one operation on behalf of `client` (0: of none in particular), whose process is
    /// dead and whose slots are finished: once it has begun it completes, exactly once, whoever is
    /// killed; its locks are never left held. Asked again with the same words until it is `done`
    /// (pending) or `failed`. A host that was killed before it had the reply is followed by one
    /// that asks anew: ask only for what may be done when it has been done before.
    template <class O>
    Performed perform_for(u32 client, const O& o, typename O::Reply& reply) {
        const auto is_there = [&o](const Slot& slot) {
            return slot.op == number_of<O>() && received<O>(slot.request) == o;
        };
        const auto write = [&o](Slot& slot) {
            slot.op = number_of<O>();
            copy_message<O>(slot.request, &o);
        };
        const auto read = [&reply](const Slot& slot) {  // once
            reply = received<typename O::Reply>(slot.reply);
        };
        u32 finishes = NO_SLOT;
        if constexpr (std::is_same_v<O, op::FinishAway>) finishes = o.slot;
        return perform_asked(client, {finishes, is_there, write, read});
    }

    /// Waits for whosever operation is in the slot, and undoes what nobody completes. The first
    /// time that nothing is under way there, the slot is taken back from a former host: not before,
    /// its completer may be at work.
    SlotOutcome settle();

    /// What the operation of `slot` has pinned between nodes is put right, and what it has told
    /// them.
    Performed finish_pinned(u32 slot);

  private:
    SlotOutcome complete_or_undo();
    SlotOutcome begin();
    void free_what_the_dead_hold();
    Performed unfinished(SlotOutcome outcome);
    /// One operation and its reply, whatever their types.
    struct Asked {
        u32 finishes;  // the slot whose operation it puts an end to, or NO_SLOT
        std::function<bool(const Slot&)> is_there;  // it is what the slot holds
        std::function<void(Slot&)> write;
        std::function<void(const Slot&)> read;
    };
    Performed perform_asked(u32 client, const Asked& asked);
    SlotOutcome write_and_begin(u64 owner, const Asked& asked);

    const ServedContext& served_;
    const Protection& protection_;
    const SlotUndo& undo_;
    const Log& log_;
    u32 ends_with_ = NONE_ENDS;  // sequence when what this host began is over
    bool settled_ = false;       // what a former host left there is over
    u32 failures_ = 0;           // operations that broke, one after the other

    static constexpr u32 NO_SLOT = ~u32{0};
    static constexpr u32 NONE_ENDS = 1;  // odd: no operation ends with it
};

}  // namespace aep
