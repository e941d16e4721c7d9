// Purpose: operations that the host performs for dead clients, in a slot of its own, one at a time.
// Who calls it: recovery, for what must not be left half done or locked; the care for other nodes.
// Crash rule: the slot has an owner before anything else of an operation is written, and none again
//             after its reply is read. A host that finds it even has nothing to finish: either
//             nothing had begun, or it has ended. A host that finds it odd completes it like any
//             other slot of that client.
#pragma once

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
    Performed perform_for(u32 client, u32 number, const Request& request, Reply& reply);

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
    SlotOutcome write_and_begin(u64 owner, u32 number, const Request& request);

    const ServedContext& served_;
    const Protection& protection_;
    const SlotUndo& undo_;
    const Log& log_;
    u32 ends_with_ = NONE_ENDS;  // sequence when what this host began is over
    bool settled_ = false;       // what a former host left there is over
    u32 failures_ = 0;           // operations that broke, one after the other

    static constexpr u32 NONE_ENDS = 1;  // odd: no operation ends with it
};

}  // namespace aep
