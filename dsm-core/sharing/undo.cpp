// Purpose: see undo.hpp.
// Who calls it: see undo.hpp.
// Crash rule: see undo.hpp.
#include "dsm-core/sharing/undo.hpp"

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/topics.hpp"

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
    // All but locks. (That those are not among them is seen by where they lie.)
    const Range header{fixed, fixed + at.present_bytes};
    if (entry.kind() == sizeof(u32) &&
        NotedLock(static_cast<u32>(entry.address() - control_base())).is_one())
        return false;
    const Range counts{fixed + at.counts, fixed + at.counts + context().chunk_count * sizeof(u32)};
    if (entry.kind() == UndoEntry::FILL)
        return entry.address() % sizeof(u32) == 0 && counts.holds(entry.address(), entry.size());
    const u64 bytes = entry.size();
    return is_power_of_two(bytes) && bytes <= sizeof(u64) && entry.address() % bytes == 0 &&
           (header.holds(entry.address(), bytes) ||
            Range{records, records + at.record_bytes}.holds(entry.address(), bytes));
}

namespace {

/// Where in a record of the table the address lies; sizeof(Record): in none.
template <class Record>
usize offset_in(uptr at, const Record* table, u64 count) {
    const uptr offset = at - reinterpret_cast<uptr>(table);
    return offset < count * sizeof(Record) ? offset % sizeof(Record) : sizeof(Record);
}

}  // namespace

NotedLock::NotedLock(u32 note) {
    const uptr at = control_base() + note;
    ShareHeader& s = sharing();
    const u32 clients = context().max_clients + 1;
    // A client may have written anything there.
    const u32 used = s.exports_used.load();
    const u32 exports = used < MAX_EXPORTS ? used + 1 : MAX_EXPORTS;
    const usize in_client = offset_in(at, &share_client(0), clients);
    const Inbox* further = &inbox_at(FIRST_FURTHER);  // and topics
    bool plain = in_client == offsetof(ShareClient, inbox) + offsetof(Inbox, lock) ||
                 offset_in(at, further, first_topic() - FIRST_FURTHER + MOST_TOPICS) ==
                     offsetof(Inbox, lock) ||
                 offset_in(at, &stripe_at(0), STRIPES) == offsetof(Stripe, lock) ||
                 offset_in(at, &export_at(0), exports) == sizeof(ExportFields);
    for (const SlotLock* lock : {&s.names, &s.records, &s.numbers, &s.lingering})
        plain = plain || at == reinterpret_cast<uptr>(lock);
    if (plain) plain_ = reinterpret_cast<SlotLock*>(at);
    if (in_client == offsetof(ShareClient, lock)) client_ = reinterpret_cast<BiasedLock*>(at);
}

bool NotedLock::is_held_by(u32 slot) const {
    return plain_ != nullptr ? plain_->holder() == slot
                             : client_ != nullptr && client_->is_held_by(slot);
}

void NotedLock::give_up_of(u32 slot) const {
    if (plain_ != nullptr) plain_->give_up_of(slot);
    if (client_ != nullptr) client_->give_up_of(slot);
}

void end_turn(u32 slot) {
    std::atomic<u32>& turns = slot_at(slot).turns;
    const u32 now = turns.load(std::memory_order_relaxed);
    // release: who sees it even sees all that was done or taken back.
    if (now % 2 != 0) turns.store(now + 1, std::memory_order_release);
    // Of names the version is as if nobody was changing them: who died in that holds their lock still.
    std::atomic<u64>& names = sharing().names_version;
    const u64 version = names.load(std::memory_order_relaxed);
    if (version % 2 != 0 && sharing().names.holder() == slot)
        names.store(version + 1, std::memory_order_release);
}

bool holds_a_lock(u32 slot) {
    const UndoLog& log = undo_log_of(slot);
    for (u32 i = 0; i <= UndoLog::LOCKS; ++i)
        if (NotedLock(log.seen_lock(i)).is_held_by(slot)) return true;
    return false;
}

void pay_what_is_owed(u32 slot) {
    std::atomic<u32>& owes = slot_at(slot).owes;
    const Owed owed{owes.load(std::memory_order_acquire)};
    if (owed.bits == 0) return;
    if (is_inbox(owed.inbox()) || is_topic(owed.inbox()))
        wake(words_of(owed.inbox(), owed.sleep()));
    owes.store(0, std::memory_order_release);  // after they are awake
}

bool exports_gone(u32 chunk) {
    const Logged<u32>& exports = chunk_exports(chunk);
    // seq_cst: the chunk may have been marked as kept just before (Turn::give_freed_chunks).
    if (exports.load(std::memory_order_seq_cst) != 0) return false;
    std::atomic_thread_fence(std::memory_order_seq_cst);  // who has the lock after the count
    const u32 holder = share_client(0).lock.taken().holder();
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
