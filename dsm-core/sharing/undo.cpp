// Purpose: see undo.hpp.
// Who calls it: see undo.hpp.
// Crash rule: see undo.hpp.
#include "dsm-core/sharing/undo.hpp"

#include "dsm-core/context/node_ops.hpp"

namespace aep {
namespace {

struct Range {
    uptr begin, end;
    bool holds(uptr address, u64 bytes) const {
        return address >= begin && address < end && bytes <= end - address;
    }
};

}  // namespace

bool may_be_logged(const UndoEntry& entry) {
    const ShareLayout at = share_layout();
    const uptr fixed = control_base() + SHARE_OFFSET;
    const uptr records = control_base() + RECORDS_OFFSET;
    // Of the header all but the lock.
    const Range header{reinterpret_cast<uptr>(&sharing().exports_present),
                       fixed + at.present_bytes};
    const Range counts{fixed + at.counts, fixed + at.counts + context().chunk_count * sizeof(u32)};
    if (entry.kind() == UndoEntry::FILL)
        return entry.address() % sizeof(u32) == 0 && counts.holds(entry.address(), entry.size());
    const u64 bytes = entry.size();
    return is_power_of_two(bytes) && bytes <= sizeof(u64) && entry.address() % bytes == 0 &&
           (header.holds(entry.address(), bytes) ||
            Range{records, records + at.record_bytes}.holds(entry.address(), bytes));
}

SlotLock* lock_noted(u32 at) {
    SlotLock* const lock = &sharing().lock;
    return at == reinterpret_cast<uptr>(lock) - control_base() ? lock : nullptr;
}

bool holds_a_lock(u32 slot) {
    const UndoLog& log = undo_log_of(slot);
    for (u32 i = 0; i < UndoLog::LOCKS; ++i) {
        const SlotLock* lock = lock_noted(log.seen_lock(i));
        if (lock != nullptr && lock->holder() == slot) return true;
    }
    return false;
}

void pay_what_is_owed(u32 slot) {
    std::atomic<u32>& owes = slot_at(slot).owes;
    const Owed owed{owes.load(std::memory_order_acquire)};
    if (owed.bits == 0) return;
    if (owed.client() <= context().max_clients) wake(words_of(owed.client(), owed.sleep()));
    owes.store(0, std::memory_order_release);  // after they are awake
}

bool exports_gone(u32 chunk) {
    const Logged<u32>& exports = chunk_exports(chunk);
    // seq_cst: the chunk may have been marked as kept just before (SharingLock::give_freed_chunks).
    if (exports.load(std::memory_order_seq_cst) != 0) return false;
    std::atomic_thread_fence(std::memory_order_seq_cst);  // who has the lock after the count
    const u32 holder = sharing().lock.holder();
    if (holder >= context().max_slots) return true;
    const UndoLog& log = undo_log_of(holder);
    const u32 length = log.seen_length();
    for (u32 i = 0; i < length && i < UndoLog::CAPACITY; ++i) {
        const UndoEntry entry = log.seen_entry(i);
        if (reinterpret_cast<uptr>(&exports) - entry.address() < entry.size()) return false;
    }
    return true;
}

void give_forgotten_chunks() {
    for (u32 c = 0; c < context().chunk_count; ++c)
        if (chunk_owner(c).load(std::memory_order_acquire) == OWNER_KEPT && exports_gone(c))
            give_kept_chunk(c);
}

}  // namespace aep
