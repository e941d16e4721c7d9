// Purpose: takes back what a slot's open operation has changed under the lock of sharing, and frees
//          the lock.
// Who calls it: the host, for a slot whose thread is dead and whose operation nobody completes.
// Crash rule: repeatable. The old values are written again, the last one first; then the log is
//             empty; then the lock is free. Killed in between, the next host does it once more.
//
// The log is memory that clients write: each entry is read once and believed only if it tells of a
// word that operations may change.
#pragma once

#include "dsm-core/sharing/records.hpp"

namespace aep {

enum class Undo : u8 {
    not_held,  // the slot does not hold the lock: nothing to do
    done,      // all is as it was before the operation, or as it last committed
    refused,   // the log is none that an operation wrote: nobody can undo it
};

/// Whether the bytes are words of a table that operations change.
bool may_be_logged(const UndoEntry& entry);

/// Takes back what `slot` has done since it last committed. `make_present(address, bytes)` sees to
/// it that a store there cannot fail; false: it cannot be had, and nothing more is done (refused).
/// Safe beside threads that wait for the lock; one caller at a time. Cost: a store an entry.
template <class MakePresent>
Undo undo_operation(u32 slot, MakePresent&& make_present) {
    ShareHeader& s = sharing();
    if (s.lock.holder() != slot) return Undo::not_held;
    UndoLog& log = undo_log();
    const u32 length = log.seen_length();
    if (length > UndoLog::CAPACITY) return Undo::refused;
    for (u32 i = length; i-- > 0;) {
        const UndoEntry entry = log.seen_entry(i);
        if (!may_be_logged(entry) || !make_present(entry.address(), entry.size()))
            return Undo::refused;
        entry.restore();
    }
    __atomic_store_n(&log.freed, 0, __ATOMIC_RELEASE);
    // release: the old values come before.
    __atomic_store_n(&log.length, 0, __ATOMIC_RELEASE);
    const u64 version = s.version.load(std::memory_order_relaxed);
    // release: who sees it even sees all of that.
    if (version % 2 != 0) s.version.store(version + 1, std::memory_order_release);
    s.lock.give_up();
    return Undo::done;
}

/// Wakes whom the operation in `slot`, which has happened, was to wake. Repeatable.
void pay_what_is_owed(u32 slot);

/// Whether no export lies in the chunk, for good: an operation that may still be undone has not
/// taken the last one away. Without the lock; of a chunk whose owner is dead, so that none comes.
/// Cost: a word; while an operation is under way a look at its log.
bool exports_gone(u32 chunk);

/// Gives chunks to the cache that are kept although no export lies in them any more: whoever took
/// the last one away died before it could. Cost: a look at each chunk's word.
void give_forgotten_chunks();

}  // namespace aep
