// Purpose: a lock that nearly always one slot takes: that one needs no locked instruction.
// Who calls it: the sharing operations, for what is one client's; recovery (give_up_of).
// Crash rule: as SlotLock: killed in between it is held by a slot whose operation is open, and give_up_of() frees it when that
//             is completed or undone. A revocation that is cut off is done again by the next one.
//
// The slot that the lock is biased to enters by saying so (`held`) and looking once more whether it still is. Whoever else wants
// the lock takes the lock of all others, says that it is biased no more, sees to it that this is seen or `held` is
// (barrier_in_every_thread), and waits until that slot has left. From then on it is a lock like others, until one slot has taken
// it many times without anybody else.
//
// What two at once may see.
//
//   enter | lock                 the slot is in, and the other waits until it leaves; or it finds that it may not
//   leave | lock                 the other has it within LONGEST_NAP, with all that was written
//   lock | lock                  one has it (SlotLock)
//   lock, killed | enter, lock   not biased yet, or no more: whoever comes next ends the revocation
//   give_up_of | all             the slot's thread is dead
#pragma once

#include "dsm-core/base/every_thread.hpp"
#include "dsm-core/base/slot_lock.hpp"

namespace aep {

/// A lock in zeroed memory is free, and is not biased before allow_bias().
class BiasedLock {
  public:
    /// By a slot to which it may be biased. False: take it with lock(). Cost: two loads, a store.
    bool enter(u32 slot) {
        if (bias_.load(std::memory_order_relaxed) != slot + 1) return false;
        held_.store(1, std::memory_order_release);
        // For the compiler. Of the processor it is whoever takes the bias away that sees to the order.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        // acquire: what others have done before it was biased to us is seen.
        if (AEP_LIKELY(bias_.load(std::memory_order_acquire) == slot + 1)) return true;
        leave();
        return false;
    }
    void leave() { held_.store(0, std::memory_order_release); }  // what was done comes before

    /// As SlotLock::lock(). `may_be_biased`: the slot may enter() it some day. is_inside(slot): whether a slot may be in it at
    /// all: what a client wrote there holds up nobody.
    /// (Not checked: what it has taken it keeps when the context is given up.)
    template <class GivenUp, class Inside>
    bool lock(u32 slot, bool may_be_biased, GivenUp&& given_up,
              Inside&& is_inside) AEP_NOT_CHECKED {
        if (!lock_.lock(slot, given_up)) return false;
        if (AEP_UNLIKELY(bias_.load(std::memory_order_relaxed) != 0) &&
            !revoke(given_up, is_inside))
            return false;
        if (may_be_biased && credit_ != 0) consider(slot);
        return true;
    }
    /// What lock() has taken.
    SlotLock& taken() { return lock_; }

    /// With the lock, by a slot that may enter(): from now on it may be biased, and to that slot at first.
    void allow_bias(u32 slot) {
        if (bias_.load(std::memory_order_relaxed) != 0) return;
        credit_ = 1;
        last_ = slot;
        bias_.store(slot + 1,
                    std::memory_order_release);  // what was done under the lock comes before
    }
    /// With the lock, which is not biased: it never is again before allow_bias().
    void forbid_bias() { credit_ = 0; }

    /// Whether the slot has it; it does at last if its thread is dead.
    bool is_held_by(u32 slot) const {
        return lock_.holder() == slot ||
               (held_.load(std::memory_order_acquire) != 0 && is_biased_to(slot));
    }
    /// Whether anybody has it: a guess.
    bool is_held() const {
        return lock_.holder() != SlotLock::NO_SLOT || entered_by() != SlotLock::NO_SLOT;
    }
    /// Frees what the slot, whose thread is dead, has of it.
    void give_up_of(u32 slot) {
        if (is_biased_to(slot)) leave();
        lock_.give_up_of(slot);
    }
    /// The slot that is in it by bias; NO_SLOT: none.
    u32 entered_by() const {
        const u32 bias = bias_.load(std::memory_order_acquire) & ~REVOKED;
        return bias != 0 && held_.load(std::memory_order_acquire) != 0 ? bias - 1
                                                                       : SlotLock::NO_SLOT;
    }

  private:
    static constexpr u32 REVOKED = u32{1} << 31;
    /// So often one slot takes it with nobody else in between until it is biased to that one: a revocation costs about as much.
    static constexpr u32 ENOUGH = 2000;
    static constexpr detail::Timespec LONGEST_NAP{0, 100'000};

    bool is_biased_to(u32 slot) const {
        return (bias_.load(std::memory_order_acquire) & ~REVOKED) == slot + 1;
    }

    void consider(u32 slot) {
        if (last_ != slot) {
            last_ = slot;
            credit_ = 1;
        } else if (++credit_ > ENOUGH) {
            allow_bias(slot);
        }
    }

    template <class GivenUp, class Inside>
    [[gnu::noinline]] bool revoke(GivenUp&& given_up, Inside&& is_inside) {
        const u32 slot = (bias_.load(std::memory_order_relaxed) & ~REVOKED) - 1;
        bias_.store((slot + 1) | REVOKED, std::memory_order_seq_cst);
        barrier_in_every_thread();
        // acquire: what the slot has done is seen.
        for (u32 looks = 0; is_inside(slot) && held_.load(std::memory_order_acquire) != 0;
             ++looks) {
            if (given_up()) return false;
            if (looks < 100)
                __builtin_ia32_pause();
            else
                detail::futex(&held_, detail::FUTEX_WAIT, 1, &LONGEST_NAP);
        }
        bias_.store(0, std::memory_order_release);
        return true;
    }

    SlotLock lock_;          // of all but the slot that it is biased to
    std::atomic<u32> bias_;  // 1 + the slot; 0: not biased; REVOKED: it is being taken away
    std::atomic<u32> held_;  // by that slot
    u32 last_;               // the slot that took lock_ the last time; under the lock
    u32 credit_;             // so often one after the other; 0: it may not be biased
};
static_assert(sizeof(BiasedLock) == 20);

}  // namespace aep
