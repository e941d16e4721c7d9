// Purpose: a lock whose word says which slot holds it, so that whoever takes back a dead client
//          knows what to let go of.
// Who calls it: the sharing operations; recovery (free_of).
// Crash rule: held from one compare-and-swap to one store. Killed in between it is held by a slot
//             whose operation is open: that operation is completed, or undone and the lock freed.
//
// What two at once may see.
//
//   lock | lock                  one has it; the other waits, and sees what the first has written
//   unlock | lock                taken at once; who went to sleep just then wakes within LONGEST_SLEEP
//   give_up, give_up_of | unlock   never, by the slot that holds it: its thread is dead
//   lock, given_up | all         false once given_up() says so: whoever has it keeps it
//   holder | all                 who has it, or had it a moment ago: only a dead holder's answer lasts
#pragma once

#include "dsm-core/base/lock.hpp"

namespace aep {

/// A lock in zeroed memory is free. Not recursive.
class AEP_LOCK("lock") SlotLock {
  public:
    static constexpr u32 NO_SLOT = ~0U;

    /// Takes the lock for slot `slot` (below 2^31 - 1). Uncontended cost: one compare-and-swap.
    /// Waits for its holder, asleep; a dead one's is freed by recovery.
    void lock(u32 slot) AEP_TAKES() {
        lock(
            slot, [] { return false; });
    }
    /// The same; waits no longer than until given_up() says that its holder may never let go of it: false.
    template <class GivenUp>
    bool lock(u32 slot, GivenUp&& given_up) AEP_TRIES() {
        u32 expected = FREE;
        // acquire: what the former holder wrote is seen.
        return AEP_LIKELY(
                   word_.compare_exchange_strong(expected, slot + 1, std::memory_order_acquire)) ||
               lock_contended(slot, given_up);
    }

    /// Uncontended cost: one store. As with Lock, a thread that goes to sleep between the load and
    /// the store is not woken: nobody sleeps for longer than LONGEST_SLEEP.
    void unlock() AEP_GIVES() {
        if (AEP_LIKELY((word_.load(std::memory_order_relaxed) & CONTENDED) == 0))
            word_.store(FREE, std::memory_order_release);  // what the holder wrote comes before
        else
            give_up();
    }

    /// Makes the lock free whoever holds it, and wakes all who wait: when what it protects is given
    /// up, or when what its dead holder did is undone.
    void give_up() {
        word_.store(FREE, std::memory_order_release);  // what was done comes before
        detail::futex(&word_, detail::FUTEX_WAKE, 0x7fff'ffff);
    }

    /// give_up(), if the word still says that `slot` holds it. Whether it did.
    bool give_up_of(u32 slot) {
        u32 found = word_.load(std::memory_order_relaxed);
        while ((found & ~CONTENDED) == slot + 1) {
            // release: what was judged before the lock is free comes before.
            if (word_.compare_exchange_weak(found, FREE, std::memory_order_release)) {
                detail::futex(&word_, detail::FUTEX_WAKE, 0x7fff'ffff);
                return true;
            }
        }
        return false;
    }

    /// The slot that holds it; NO_SLOT: nobody does.
    u32 holder() const {
        // acquire: what the holder wrote before it died is seen.
        return (word_.load(std::memory_order_acquire) & ~CONTENDED) - 1;
    }

  private:
    static constexpr u32 FREE = 0;
    static constexpr u32 CONTENDED = u32{1} << 31;  // with the holder: somebody sleeps
    static constexpr detail::Timespec LONGEST_SLEEP{0, 1'000'000};

    template <class GivenUp>
    [[gnu::noinline]] bool lock_contended(u32 slot, GivenUp&& given_up) {
        for (int spin = 0; spin < 100; ++spin) {
            u32 expected = FREE;
            if (word_.load(std::memory_order_relaxed) == FREE &&
                word_.compare_exchange_weak(expected, slot + 1, std::memory_order_acquire))
                return true;
            __builtin_ia32_pause();
        }
        while (!given_up()) {
            u32 found = word_.load(std::memory_order_relaxed);
            if (found == FREE) {
                // Others may sleep still: who takes it now wakes them.
                if (word_.compare_exchange_weak(found, (slot + 1) | CONTENDED,
                                                std::memory_order_acquire))
                    return true;
            } else if ((found & CONTENDED) != 0 ||
                       // The holder stays named: only whoever takes the lock writes its own slot.
                       word_.compare_exchange_weak(found, found | CONTENDED,
                                                   std::memory_order_relaxed)) {
                detail::futex(&word_, detail::FUTEX_WAIT, found | CONTENDED, &LONGEST_SLEEP);
            }
        }
        return false;
    }

    std::atomic<u32> word_;
};

}  // namespace aep
