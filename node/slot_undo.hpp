// Purpose: the steps that undo an operation which was left open in a slot and which nobody
//          completes: what it held is free again.
// Who calls it: the host's slot for its own operation, OperationRecovery for those of clients.
// Crash rule: each step leaves what a thread could leave that dies in the slot; whoever takes them
//             makes the sequence even last. A host that is killed in one is followed by one that
//             begins anew.
//
// An operation on the client's own domain needs nothing: the domain goes as a whole. A node
// operation is one word a chunk, and each chunk that says the client's comes back. A sharing
// operation has its undo log (dsm-core/sharing/undo.hpp), and between nodes its lane's record.
#pragma once

#include "node/log.hpp"
#include "node/served_context.hpp"

namespace aep {

class SlotUndo {
  public:
    SlotUndo(const ServedContext& served, const Log& log) : served_(served), log_(log) {}

    /// The first step: restores what the slot's operation has changed and frees what its thread
    /// holds that others may wait for. False: nobody can. Safe from a thread beside the host's.
    bool undo(u32 slot) const;
    /// The export that the slot has pinned, whose record is in memory: one that an operation pinned
    /// is. NO_RECORD: none, whatever is written there.
    u32 pinned_by(u32 slot) const;
    /// The last step: who is to be woken is woken, chunks that were on their way arrive.
    static void pay(u32 slot);

  private:
    bool make_present(uptr address, u64 bytes) const;

    const ServedContext& served_;
    const Log& log_;
};

}  // namespace aep
