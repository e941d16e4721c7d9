// Purpose: the locks that a sharing operation holds, and in which order; what it changes under them happens as one.
// Who calls it: the sharing operations, each of them inside an operation of the image's.
// Crash rule: inside an operation, which completes or is undone: what it has changed is written back by its log, then its
//             locks, which the log notes, are free (undo.hpp).
//
// Locks are taken in this order, and all are held until the operation commits; then all are let go of:
//
//   names, clients (the lower index first), inboxes (the same), stripes (the lower one first), an export, numbers, lingering
//
// An operation has one export locked, a group for its extents and its root, too. The lock of records is taken after a client's
// or inbox, and what is done under it commits before another lock is taken. So whoever waits holds only locks that come before the
// one that it waits for, and there is no circle.
//
// Where the locks are known only after a look, an operation looks first, without the lock; takes it, and looks again. If that
// is not what was seen, it lets go of all and begins anew: it has changed nothing so far.
//
// What two at once may see.
//
//   operation | operation        of what both lock: one after the other. Of the rest nothing
//   operation | walk             a walk finds a slot's `turns` odd, or others at its end: it begins anew
//   operation | one load         before or after it; or what an operation had written that is undone
//                                later. Such a load is a hint, or looked at again under the lock
//   operation | waiting          see wake_after(): its sleeper is awake, or has seen what was done
//   send | receive               taken, or there for the next; from one sender in order
//   dead operation | undo        its locks are the dead slot's until all is as before: nobody between
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

/// The words of an inbox that somebody sleeps on.
enum class Sleep : u32 { arrivals, departures };

/// What a slot owes when its operation has happened: those who sleep at one inbox are to be woken.
struct Owed {
    u32 bits = 0;  // nothing
    u32 inbox() const { return (bits - 1) / 2; }
    Sleep sleep() const { return static_cast<Sleep>((bits - 1) % 2); }
    static constexpr Owed make(u32 inbox, Sleep sleep) {
        return {1 + inbox * 2 + static_cast<u32>(sleep)};
    }
};
struct SleepWords {
    std::atomic<u32>& sequence;
    std::atomic<u32>& waiters;
};
inline SleepWords words_of(u32 inbox, Sleep sleep) {
    Inbox& in = inbox_at(inbox);
    return sleep == Sleep::arrivals ? SleepWords{in.arrivals, in.arrival_waiters}
                                    : SleepWords{in.departures, in.departure_waiters};
}

/// A thread has died within an operation that nobody completes or undoes: what that has locked stays so.
inline bool is_given_up() {
    return context().state.load(std::memory_order_acquire) ==
           static_cast<u32>(ContextState::poisoned);
}

/// What it is known to take before anything is changed: clients, inboxes and stripes, each in order and once.
class LockList {
  public:
    void add_client(u32 client) { clients_.add(client); }
    void add_inbox(u32 inbox) { inboxes_.add(inbox); }
    void add_stripe(u64 address) { stripes_.add(stripe_of(address)); }
    /// Whether all of the other's clients are among its own.
    bool has_clients_of(const LockList& other) const { return clients_.has_all(other.clients_); }
    bool has_inboxes_of(const LockList& other) const { return inboxes_.has_all(other.inboxes_); }
    bool has_inboxes() const { return inboxes_.count != 0; }
    bool has_stripes_of(const LockList& other) const { return stripes_.has_all(other.stripes_); }

  private:
    friend class Turn;

    /// Numbers in order. A copy costs what is in it.
    struct Numbers {
        static constexpr u32 MOST = MAX_EXTENTS + 4;

        Numbers() {}  // what is not in it says nothing
        Numbers(const Numbers& other) { *this = other; }
        Numbers& operator=(const Numbers& other) {
            if (this == &other) return *this;
            count = other.count;
            for (u32 i = 0; i < count; ++i) all[i] = other.all[i];
            return *this;
        }
        void add(u32 one) {
            u32 at = count;
            while (at != 0 && all[at - 1] > one) --at;
            if ((at != 0 && all[at - 1] == one) || count == MOST) return;
            for (u32 i = count; i != at; --i) all[i] = all[i - 1];
            all[at] = static_cast<u16>(one);
            ++count;
        }
        bool has_all(const Numbers& wanted) const {
            u32 i = 0;
            for (u32 w = 0; w < wanted.count; ++w) {
                while (i < count && all[i] < wanted.all[w]) ++i;
                if (i == count || all[i] != wanted.all[w]) return false;
            }
            return true;
        }

        u32 count = 0;
        u16 all[MOST];
    };
    static_assert(STRIPES <= 0x10000 && FIRST_FURTHER + MOST_INBOXES <= 0x10000);

    Numbers clients_, inboxes_, stripes_;
};

/// One operation's, or a step's of one. Each lock that is asked for: false if the context is given up; then nothing more is to
/// be read or written, and what was is taken back.
///
/// What a client does all the time: locked instructions cost more than all the rest, so those of the locks are the only ones; and
/// it is a few dozen instructions, which are no calls. Which locks it has the slot's log says, which notes them anyway. So the
/// compiler cannot know: it checks none of them (AEP_NOT_CHECKED); tests/undo and tests/hosted do.
class Turn {
  public:
    [[gnu::always_inline]] explicit Turn(Caller caller)
        : slot_(slot_at(caller.slot)), number_(caller.slot), client_(caller.client) {
        log_in(number_);
        step();
        // release: whoever sees a change that follows sees the odd number.
        std::atomic_thread_fence(std::memory_order_release);
    }
    [[gnu::always_inline]] ~Turn() {
        const bool sleeping = owe_who_sleeps();
        let_go();
        step();
        if (AEP_UNLIKELY(sleeping)) pay(slot_, *sequence_);
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    [[nodiscard]] bool names() { return take(sharing().names); }
    [[gnu::always_inline, nodiscard]] bool client(u32 client) {
        BiasedLock& lock = share_client(client).lock;
        if (AEP_LIKELY(client == client_)) {
            undo_log().note_client(lock.taken());
            if (AEP_LIKELY(lock.enter(number_))) {
                entered_ = &lock;
                return true;
            }
        }
        return take_client(lock, client == client_ && number_ != host_slot());
    }
    /// What others lay down: messages, and in a main one objects that its client is to free.
    [[gnu::always_inline, nodiscard]] bool inbox(u32 inbox) { return take(inbox_at(inbox).lock); }
    [[nodiscard]] bool clients(u32 a, u32 b) {
        if (a > b) return client(b) && client(a);
        return client(a) && (a == b || client(b));
    }
    [[gnu::always_inline, nodiscard]] bool clients(const LockList& list) {
        for (u32 i = 0; i < list.clients_.count; ++i)
            if (!client(list.clients_.all[i])) return false;
        return true;
    }
    [[gnu::always_inline, nodiscard]] bool inboxes(const LockList& list) {
        for (u32 i = 0; i < list.inboxes_.count; ++i)
            if (!inbox(list.inboxes_.all[i])) return false;
        return true;
    }
    [[nodiscard]] bool stripe(u64 address) { return take(stripe_at(stripe_of(address)).lock); }
    [[nodiscard]] bool stripes(const LockList& list) {
        for (u32 i = 0; i < list.stripes_.count; ++i)
            if (!take(stripe_at(list.stripes_.all[i]).lock)) return false;
        return true;
    }
    [[nodiscard]] bool object(u32 index) { return take(export_at(index).lock); }
    /// These may be asked for again.
    [[nodiscard]] bool numbers() { return numbers_ || (numbers_ = take(sharing().numbers)); }
    [[nodiscard]] bool lingering() {
        return lingering_ || (lingering_ = take(sharing().lingering));
    }
    [[nodiscard]] bool records() { return take(sharing().records); }

    /// All that was done so far has happened, whatever becomes of the rest. Of a context that is given up: it has not.
    [[gnu::always_inline]] void commit() {
        if (AEP_UNLIKELY(given_up_)) return take_back();
        UndoLog& log = undo_log();
        const u32 length = log.length.load(std::memory_order_relaxed);
        log.length.store(0, std::memory_order_release);  // after all that it tells of
        if (AEP_UNLIKELY(log.freed.load(std::memory_order_relaxed) != 0)) give_freed_chunks(length);
    }
    /// How many locks it has, but its client's if that is biased to it.
    u32 held() const { return held_; }
    /// Commits, and lets go of those that were taken after the first `kept`. What follows is another step of the same operation: who
    /// sleeps is woken when all is over, or by recovery.
    void let_go_of_later(u32 kept) AEP_NOT_CHECKED {
        owe_who_sleeps();
        commit();
        while (held_ > kept) undo_log().noted_lock(--held_).unlock();
        numbers_ = lingering_ = false;
    }
    /// Commits, and lets go of the last lock that was taken; of all that it has.
    void let_go_of_last() AEP_NOT_CHECKED {
        commit();
        undo_log().noted_lock(--held_).unlock();
    }
    [[gnu::always_inline]] void let_go() AEP_NOT_CHECKED {
        commit();
        while (held_ != 0) undo_log().noted_lock(--held_).unlock();
        if (AEP_LIKELY(entered_ != nullptr)) entered_->leave();
        entered_ = nullptr;
        numbers_ = lingering_ = false;
    }

    /// Changes the sequence now, and wakes those who wait for that when this operation is over. Of one
    /// inbox and one kind of sleep alone, as often as it likes. With that inbox' lock.
    ///
    /// A waiter raises `waiters`, reads the sequence and tries again under the lock before it
    /// sleeps. If it came before us, the lock shows us its `waiters`; if after, it finds what we
    /// did.
    void wake_after(u32 inbox, Sleep sleep) {
        const SleepWords words = words_of(inbox, sleep);
        words.sequence.store(words.sequence.load(std::memory_order_relaxed) + 1,
                             std::memory_order_release);
        sequence_ = &words.sequence;
        waiters_ = &words.waiters;
        owed_ = Owed::make(inbox, sleep);
    }

    /// What it has changed since it last committed is as before.
    [[gnu::noinline]] static void take_back();

  private:
    [[gnu::always_inline]] bool take(SlotLock& lock) AEP_NOT_CHECKED {
        undo_log().note_lock(held_, lock);
        if (AEP_UNLIKELY(!lock.lock(number_, is_given_up))) return give_up();
        ++held_;
        return true;
    }
    [[gnu::noinline]] bool take_client(BiasedLock& lock, bool may_be_biased);
    bool give_up() {
        given_up_ = true;
        return false;
    }
    [[gnu::always_inline]] void step() {
        slot_.turns.store(slot_.turns.load(std::memory_order_relaxed) + 1,
                          std::memory_order_release);
    }
    /// Before it has happened: a kill from here on leaves that to recovery. Whether anybody does.
    [[gnu::always_inline]] bool owe_who_sleeps() {
        const bool sleeping =
            owes_ || (waiters_ != nullptr && waiters_->load(std::memory_order_relaxed) != 0);
        if (AEP_UNLIKELY(sleeping)) owe(slot_, owed_);
        return owes_ = sleeping;
    }
    static void owe(Slot& slot, Owed what) {
        slot.owes.store(what.bits, std::memory_order_release);
    }
    [[gnu::noinline]] static void pay(Slot& slot, std::atomic<u32>& sequence);
    [[gnu::noinline]] static void give_freed_chunks(u32 length);

    Slot& slot_;
    u32 number_, client_;
    BiasedLock* entered_ = nullptr;  // by bias
    u32 held_ = 0;                   // others, which the log notes in this order
    bool given_up_ = false, numbers_ = false, lingering_ = false, owes_ = false;
    std::atomic<u32>* sequence_ = nullptr;
    const std::atomic<u32>* waiters_ = nullptr;
    Owed owed_{};
};

/// The same at once, for operations that wake several.
void wake(SleepWords words);

}  // namespace aep
