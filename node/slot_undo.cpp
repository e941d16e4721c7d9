// Purpose: see slot_undo.hpp.
// Who calls it: see slot_undo.hpp.
// Crash rule: see slot_undo.hpp.
#include "node/slot_undo.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/away.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "node/crash_points.hpp"

namespace aep {

/// Records lie in memory that is made present as it is needed. Where a client's word leads there
/// may be none, and a look at it would be the end of this process if the file system is full.
/// False: it has none.
bool SlotUndo::make_present(uptr address, u64 bytes) const {
    const uptr begin = round_down(address, OS_PAGE_SIZE);
    const uptr end = round_up(address + bytes, OS_PAGE_SIZE);
    return fallocate(served_.fd(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(begin - control_base()),
                     static_cast<off_t>(end - begin)) == 0;
}

u32 SlotUndo::pinned_by(u32 slot) const {
    const u32 index = pin_of(slot).load();  // once
    return is_record(index) &&
                   make_present(reinterpret_cast<uptr>(&export_at(index)), sizeof(Export))
               ? index
               : NO_RECORD;
}

bool SlotUndo::undo(u32 slot) const {
    const auto present = [this](uptr address, u64 bytes) { return make_present(address, bytes); };
    if (undo_operation(slot, present) == Undo::refused) {
        log_(LogLevel::error, fmt::format("slot {}: its undo log is damaged, or there is no memory "
                                          "to restore what it changed",
                                          slot));
        return false;
    }
    AEP_ROLLBACK_CRASH_POINT("rollback: undone");
    if (shares_between_nodes()) settle_lanes(slot, pinned_by(slot));
    AEP_ROLLBACK_CRASH_POINT("rollback: lanes settled");
    return true;
}

void SlotUndo::pay(u32 slot) {
    pay_what_is_owed(slot);
    give_forgotten_chunks();
    AEP_ROLLBACK_CRASH_POINT("rollback: debts paid");
}

}  // namespace aep
