// Purpose: the records of sharing and the steps that its operations are made of: exports, holders,
//          references.
// Who calls it: the sharing operations, each of them under SharingLock and inside an operation.
// Crash rule: inside an operation, which completes or is undone.
//
// What two at once may see.
//
//   operation | operation        one after the other: SharingLock. What crosses nodes: away.hpp
//   operation | walk             a walk finds the version odd, or another one at its end: it begins anew
//   operation | one load         before or after it; or what an operation had written that is undone
//                                later. Such a load is a hint, or looked at again in an operation
//   operation | waiting          see wake_after(): its sleeper is awake, or has seen what was done
//   send | receive               taken, or there for the next; from one sender in order
//   dead operation | undo        the lock is the dead slot's until all is as before: nobody between
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

/// The words that somebody sleeps on for a client.
enum class Sleep : u32 { arrivals, departures };

/// What a slot owes when its operation has happened: the sleepers of one client are to be woken.
struct Owed {
    u32 bits = 0;  // nothing
    u32 client() const { return (bits - 1) / 2; }
    Sleep sleep() const { return static_cast<Sleep>((bits - 1) % 2); }
    static constexpr Owed make(u32 client, Sleep sleep) {
        return {1 + client * 2 + static_cast<u32>(sleep)};
    }
};
struct SleepWords {
    std::atomic<u32>& sequence;
    std::atomic<u32>& waiters;
};
inline SleepWords words_of(u32 client, Sleep sleep) {
    ShareClient& c = share_client(client);
    return sleep == Sleep::arrivals ? SleepWords{c.arrivals, c.arrival_waiters}
                                    : SleepWords{c.departures, c.departure_waiters};
}

/// One operation at a time, and those it wakes. Walks see by the version that one was under way.
///
/// What a client does all the time: locked instructions cost more than all the rest, so the lock's
/// are the only ones here.
class SharingLock {
  public:
    explicit SharingLock(Caller caller) : slot_(caller.slot) {
        log_in(slot_);
        undo_log().note_lock(0, sharing().lock);
        sharing().lock.lock(slot_);
        step();
        // release: whoever sees a change that follows sees the odd version.
        std::atomic_thread_fence(std::memory_order_release);
    }
    ~SharingLock() {
        const bool sleeping = waiters_ != nullptr && waiters_->load(std::memory_order_relaxed) != 0;
        // Before it has happened: a kill from here on leaves that to recovery.
        if (AEP_UNLIKELY(sleeping)) owe(owed_);
        commit();
        step();
        sharing().lock.unlock();
        if (AEP_UNLIKELY(sleeping)) {
            detail::futex(sequence_, detail::FUTEX_WAKE, ~0u >> 1);
            owe({});
        }
    }
    SharingLock(const SharingLock&) = delete;
    SharingLock& operator=(const SharingLock&) = delete;

    /// False: a thread has died within an operation that nobody completes or undoes. What is here
    /// may be half changed: to be neither read nor written.
    bool is_sound() const {
        // acquire: it is said before the lock is given up.
        return context().state.load(std::memory_order_acquire) !=
               static_cast<u32>(ContextState::poisoned);
    }

    /// All that was done so far has happened, whatever becomes of the rest.
    void commit() {
        UndoLog& log = undo_log();
        const u32 length = __atomic_load_n(&log.length, __ATOMIC_RELAXED);
        __atomic_store_n(&log.length, 0, __ATOMIC_RELEASE);  // after all that it tells of
        if (AEP_UNLIKELY(log.freed != 0)) give_freed_chunks(length);
    }

    /// Changes the sequence now, and wakes those who wait for that when this operation is over. At
    /// most once.
    ///
    /// A waiter raises `waiters`, reads the sequence and tries again under the lock before it
    /// sleeps. If it came before us, the lock shows us its `waiters`; if after, it finds what we
    /// did.
    void wake_after(u32 client, Sleep sleep) {
        const SleepWords words = words_of(client, sleep);
        words.sequence.store(words.sequence.load(std::memory_order_relaxed) + 1,
                             std::memory_order_release);
        sequence_ = &words.sequence;
        waiters_ = &words.waiters;
        owed_ = Owed::make(client, sleep);
    }

  private:
    static void step() {
        std::atomic<u64>& version = sharing().version;  // changed under the lock only
        version.store(version.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }
    void owe(Owed what) const { slot_at(slot_).owes.store(what.bits, std::memory_order_release); }
    static void give_freed_chunks(u32 length);

    u32 slot_;
    std::atomic<u32>* sequence_ = nullptr;
    const std::atomic<u32>* waiters_ = nullptr;
    Owed owed_{};
};

/// The same at once, for operations that wake several.
void wake(SleepWords words);

/// Whether that client takes part. Without the lock: it did or it does.
bool is_open(ShareId id);

/// Whether there is an export with that index, or was one.
bool is_record(u32 index);

inline bool is_group(u32 index) { return index != NO_RECORD && export_at(index).group == index; }

/// Whether so many exports can be had, and records for one more object that a client holds.
bool records_left(u32 exports, bool to_hold);

/// The export of an object by its address; NO_RECORD: it is none.
u32 find_export(u64 address);
/// A record that is nobody's; needs one (records_left). It is memory that nobody reaches until it
/// is linked somewhere (write_unreached).
u32 new_export();
/// Gives a record back that is in a bucket and on no other list. It is not made anew before the
/// next commit: of what it says only that it is free is logged then.
void recycle_export(u32 index);
/// Makes one without references, in the client's heap. Needs a record.
u32 make_export(u32 client, u64 address, u64 bytes);
/// Makes one of an object of another node, whose number there is `object`: its address is not known
/// yet, nobody finds it by that. Needs a record.
u32 make_foreign_export(u32 object);
/// Its address is known, or is another one from now on.
void name_export(u32 index, u64 address, u64 bytes);
/// It has no number between nodes any more, nor a reference of the node.
void forget_number(u32 index);
/// The export is gone; its memory is the business of whoever calls this.
void free_export(u32 index);
/// Makes the export a group. Returns its number, which no other group of the context ever has; the
/// low half is not 0.
u64 begin_group(u32 index);
/// Gives the group a root, in place of the one it has; needs a record.
void add_root(u32 group, u64 address, u64 bytes);
/// The group has no root any more.
void remove_root(u32 group);
/// Takes it off its owner's list: the owner is dead.
void unlink_from_owner(u32 index);
/// Takes `count` references away. True: the last one is gone.
bool take_references(u32 index, u32 count);
/// The client's references to the export at that address, not its root's; NO_RECORD: none. Cost: three bits of the
/// address' hash a branch, then a few records.
u32 find_holder_at(u32 client, u64 address);
/// The client's references to the export; NO_RECORD: none.
inline u32 find_holder(u32 client, u32 object) {
    return find_holder_at(client, export_at(object).address);
}
/// One more reference for the client, whose holder it returns. Needs records unless it holds the export already.
u32 hold(u32 client, u32 object);
/// The client holds that no more. Who holds a group no more does not write it either.
void free_holder(u32 client, u32 holder);
/// One of the client's holders; NO_RECORD: it holds nothing.
u32 any_holder(u32 client);
/// Whether the bytes lie in chunks that are the client's.
bool is_memory_of(u32 client, u64 address, u64 bytes);
/// The client's holder of an object that it holds, or that lies in its own heap and has not been
/// sent so far (then it becomes an export, with the owner's reference). Nothing changes unless ok.
Status find_held(u32 client, u64 address, u64 bytes, u32& holder);

}  // namespace aep
