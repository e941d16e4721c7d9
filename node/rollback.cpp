// Purpose: what becomes of an operation that is left open and that nobody completes: it is undone,
//          and what it held is free again.
// Who calls it: recovery, for slots of the dead and for the host's own.
// Crash rule: each step leaves what a thread could leave that dies in the slot; the sequence
// becomes
//             even last. A host that is killed in here is followed by one that begins anew.
//
// An operation on the client's own domain needs nothing: the domain goes as a whole. A node
// operation is one word a chunk, and each chunk that says the client's comes back. A sharing
// operation has its undo log (dsm-core/sharing/undo.hpp), and between nodes its lane's record.
#include <fcntl.h>
#include <linux/falloc.h>

#include "dsm-core/sharing/away.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "node/crash_points.hpp"
#include "node/host.hpp"

namespace aep {
namespace {

/// So often may an operation of the host's break before nobody believes the tables any more.
constexpr u32 MOST_FAILURES = 3;

}  // namespace

/// Records lie in memory that is made present as it is needed. Where a client's word leads there
/// may be none, and a look at it would be the end of this process if the file system is full.
/// False: it has none.
bool NodeHost::make_present(uptr address, u64 bytes) const {
    const uptr begin = round_down(address, OS_PAGE_SIZE);
    const uptr end = round_up(address + bytes, OS_PAGE_SIZE);
    return fallocate(context_fd_.get(), FALLOC_FL_KEEP_SIZE,
                     static_cast<off_t>(begin - CONTROL_BASE),
                     static_cast<off_t>(end - begin)) == 0;
}

/// The export that the slot has pinned, whose record is in memory: one that an operation pinned is.
/// NO_RECORD: none, whatever is written there.
u32 NodeHost::pinned_by(u32 slot) const {
    const u32 index = pin_of(slot).load();  // once
    return is_record(index) &&
                   make_present(reinterpret_cast<uptr>(&export_at(index)), sizeof(Export))
               ? index
               : NO_RECORD;
}

/// Frees what the slot's thread holds that others may wait for. False: nobody can.
bool NodeHost::undo_slot(u32 index) {
    const auto present = [this](uptr address, u64 bytes) { return make_present(address, bytes); };
    const Undo undo = undo_operation(index, present);
    if (undo == Undo::refused) {
        say(LogLevel::error, "slot " + std::to_string(index) +
                                 ": its undo log is damaged, or there is no memory to restore what "
                                 "it changed");
        return false;
    }
    AEP_ROLLBACK_CRASH_POINT("rollback: undone");
    if (shares_between_nodes()) settle_lanes(index, pinned_by(index));
    AEP_ROLLBACK_CRASH_POINT("rollback: lanes settled");
    return true;
}

SlotOutcome NodeHost::roll_back(u32 index) {
    Slot& slot = slot_at(index);
    const bool hosts = index == host_slot();
    // Whatever ends the host's own operation again and again is what the tables say.
    if (!rolls_back_ || (hosts && ++host_failures_ > MOST_FAILURES) || !undo_slot(index)) {
        return SlotOutcome::no_capture;
    }
    // By an operation in the host's slot; of that slot itself perform_for() does it first of all.
    if (!hosts) {
        switch (finish_pinned(index)) {
            case Performed::done:
                break;
            case Performed::pending:
                return SlotOutcome::pending;
            case Performed::failed:
                return SlotOutcome::no_capture;
        }
        AEP_ROLLBACK_CRASH_POINT("rollback: nothing pinned");
    }
    pay_what_is_owed(index);
    give_forgotten_chunks();
    AEP_ROLLBACK_CRASH_POINT("rollback: debts paid");
    if (hosts) {
        ends_with_ = 1;  // it has not been performed, and is begun when it is asked for again
    } else {
        const SlotOwner owner{slot.owner.load(std::memory_order_relaxed)};
        const bool of_heap = slot.op < static_cast<u32>(Op::count);
        if (of_heap && owner.client() <= context().max_clients) {
            client_at(owner.client()).left_open.store(1, std::memory_order_relaxed);
        }
        context().undone.fetch_add(1, std::memory_order_relaxed);
    }
    // release: who sees it even sees nothing of the operation.
    slot.sequence.fetch_add(1, std::memory_order_release);
    return SlotOutcome::completed;
}

/// What the slot's operation has pinned between nodes is put right, and what it has told them.
Performed NodeHost::finish_pinned(u32 slot) {
    if (!shares_between_nodes()) return Performed::done;
    // What nobody pinned is nothing to be put right.
    if (pinned_by(slot) == NO_RECORD) pin_of(slot).put(NO_RECORD);
    if (pin_of(slot).load() == NO_RECORD && !may_have_told_a_name(slot)) return Performed::done;
    Reply reply{};
    return perform_for(0, static_cast<u32>(ShareOp::finish_away), {.op = Op{}, .a = slot}, reply);
}

/// Asks the provider, and undoes what that cannot complete.
SlotOutcome NodeHost::complete_or_undo(u32 slot) {
    const SlotOutcome outcome = completion_.complete(slot);
    return outcome == SlotOutcome::no_capture ? roll_back(slot) : outcome;
}

}  // namespace aep
