// Purpose: takes back what a slot's open operation has changed under the locks of sharing, and frees
//          them.
// Who calls it: the host, for a slot whose thread is dead and whose operation nobody completes.
// Crash rule: repeatable. The old values are written again, the last one first; then the log is
//             empty; then the locks are free. Killed in between, the next host does it once more.
//
// The log is memory that clients write: each entry is read once and believed only if it tells of a
// word that operations may change. What it says while its slot holds no lock no operation wrote.
#pragma once

#include "dsm-core/sharing/records.hpp"

namespace aep {

enum class Undo : u8 {
    not_held,  // the slot holds no lock: nothing to do
    done,      // all is as it was before the operation, or as it last committed
    refused,   // the log is none that an operation wrote: nobody can undo it
};

/// Whether the bytes are words of a table that operations change.
bool may_be_logged(const UndoEntry& entry);

/// The lock that a log's note leads to.
class NotedLock {
  public:
    explicit NotedLock(u32 note);
    bool is_one() const { return plain_ != nullptr || client_ != nullptr; }
    bool is_held_by(u32 slot) const;
    /// Frees what the slot, whose thread is dead, has of it.
    void give_up_of(u32 slot) const;

  private:
    SlotLock* plain_ = nullptr;
    BiasedLock* client_ = nullptr;
};

/// Whether the slot holds one of the locks that its log, which is present, tells of.
bool holds_a_lock(u32 slot);

/// Its operation changes nothing any more: walks may go on. Before its locks are free.
void end_turn(u32 slot);

/// Takes back what `slot` has done since it last committed. `make_present(address, bytes)` sees to
/// it that a look or a store there cannot fail; false: it cannot be had, and nothing more is done (refused).
/// Safe beside threads that wait for the locks; one caller at a time. Cost: a store an entry.
template <class MakePresent>
Undo undo_operation(u32 slot, MakePresent&& make_present) {
    if (!make_present(log_of_slot(slot), sizeof(UndoLog))) return Undo::refused;
    if (!holds_a_lock(slot)) {
        end_turn(slot);
        return Undo::not_held;
    }
    UndoLog& log = undo_log_of(slot);
    const u32 length = log.seen_length();
    if (length > UndoLog::CAPACITY) return Undo::refused;
    for (u32 i = length; i-- > 0;) {
        const UndoEntry entry = log.seen_entry(i);
        if (!may_be_logged(entry) || !make_present(entry.address(), entry.size()))
            return Undo::refused;
        entry.restore();
    }
    log.freed.store(0, std::memory_order_release);
    // release: the old values come before.
    log.length.store(0, std::memory_order_release);
    end_turn(slot);
    for (u32 i = 0; i <= UndoLog::LOCKS; ++i) NotedLock(log.seen_lock(i)).give_up_of(slot);
    return Undo::done;
}

/// Wakes whom the operation in `slot`, which has happened, was to wake. Repeatable.
void pay_what_is_owed(u32 slot);

/// Whether no export lies in the chunk, for good: an operation that may still be undone has not
/// taken the last one away. Without the lock; of a chunk whose owner is dead, so that none comes.
/// Cost: a word; while an operation is under way a look at its log, which is present.
bool exports_gone(u32 chunk);

/// Gives chunks to the cache that are kept although no export lies in them any more: whoever took
/// the last one away died before it could. Cost: a look at each chunk's word.
void give_forgotten_chunks();

}  // namespace aep
