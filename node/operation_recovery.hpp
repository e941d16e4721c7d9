// Purpose: operations that clients' threads left open: each is completed or undone, or else the
//          context is poisoned.
// Who calls it: recovery of a dead client, LoneDeaths, a client that asks for a slot of its own.
// Crash rule: the slot's sequence becomes even last. A host that is killed in here is followed by
//             one that begins anew.
#pragma once

#include <sys/types.h>

#include "node/host_slot.hpp"
#include "shim/context/daemon_protocol.hpp"

namespace aep {

class OperationRecovery {
  public:
    /// All of them outlive it.
    OperationRecovery(const Protection& protection, const SlotUndo& undo, HostSlot& host_slot,
                      const Log& log)
        : protection_(protection), undo_(undo), host_slot_(host_slot), log_(log) {}

    /// Ends what is open in a client's slot. Pending: ask again after the next event. no_capture:
    /// nobody can, ever.
    SlotOutcome complete_or_undo(u32 slot);
    /// Does so for the client whose process is `pid`, of which a thread left the operation and
    /// lives; the slot must be its own. Answers EINPROGRESS while it is under way.
    AnswerMessage complete_slot(pid_t pid, const AskMessage& ask);

  private:
    SlotOutcome roll_back(u32 slot);

    const Protection& protection_;
    const SlotUndo& undo_;
    HostSlot& host_slot_;
    const Log& log_;
};

}  // namespace aep
