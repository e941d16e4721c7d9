// Purpose: see turn.hpp.
// Who calls it: the sharing operations.
// Crash rule: inside an operation, which completes or is undone.
#include "dsm-core/sharing/turn.hpp"

#include "dsm-core/context/node_ops.hpp"

namespace aep {

bool Turn::take_client(BiasedLock& lock, bool may_be_biased) {
    undo_log().note_lock(held_, lock.taken());
    const auto is_inside = [](u32 slot) {
        return slot < context().max_slots &&
               slot_at(slot).turns.load(std::memory_order_acquire) % 2 != 0;
    };
    if (!lock.lock(number_, may_be_biased, is_given_up, is_inside)) return give_up();
    ++held_;
    return true;
}

void Turn::pay(Slot& slot, std::atomic<u32>& sequence) {
    detail::futex(&sequence, detail::FUTEX_WAKE, ~0u >> 1);
    owe(slot, {});
}

/// Of the chunks whose counts the log tells of, those that no export lies in any more, and that are
/// kept for them, go to the cache. Not before the exports have gone for good: the next moment the
/// chunk is another client's. What a kill leaves kept in here, recovery finds.
void Turn::give_freed_chunks(u32 length) {
    UndoLog& log = undo_log();
    const u32 oldest = log.freed.load(std::memory_order_relaxed) - 1;
    log.freed.store(0, std::memory_order_relaxed);
    // seq_cst: recovery marks a chunk as kept and then reads the count; one of us sees the other
    // and gives the chunk to the cache.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const uptr first = reinterpret_cast<uptr>(&chunk_exports(0));
    const u32 chunks = context().chunk_count;
    for (u32 i = oldest; i < length; ++i) {
        const UndoEntry& entry = log.entries[i];
        const uptr at = (entry.address() - first) / sizeof(u32);
        if (entry.address() < first || at >= chunks) continue;
        const u32 count = entry.kind() == UndoEntry::FILL ? entry.count() : 1;
        for (u32 c = static_cast<u32>(at); c < at + count && c < chunks; ++c)
            if (chunk_exports(c) == 0) give_kept_chunk(c);
    }
}

/// The context is given up: nothing of this has happened.
void Turn::take_back() {
    UndoLog& log = undo_log();
    for (u32 i = log.length.load(std::memory_order_relaxed); i-- > 0;) log.entries[i].restore();
    log.freed.store(0, std::memory_order_relaxed);
    log.length.store(0, std::memory_order_release);  // after all that it tells of
}

void wake(SleepWords words) {
    // seq_cst: a waiter raises `waiters` and then reads the sequence; one of us sees the other.
    words.sequence.fetch_add(1, std::memory_order_seq_cst);
    if (words.waiters.load(std::memory_order_seq_cst) != 0)
        detail::futex(&words.sequence, detail::FUTEX_WAKE, ~0u >> 1);
}

}  // namespace aep
