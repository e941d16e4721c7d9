// Purpose: the mutual exclusion of the slow path: a short spin, then futex.
// Who calls it: the arena, the heap table, the shared heap; never the fast path.
// Crash rule: a thread that dies holding it leaves it held. In one process every thread dies with
// it; in a shared
//             context only code that is completed after death (the image) may take it.
//
// What two at once may see.
//
//   lock | lock, try_lock        one has it; the other waits or is told no
//   unlock | lock                taken at once; who went to sleep just then wakes within LONGEST_SLEEP
//   reset | all                  never: no other thread exists
#pragma once

#include <atomic>

#include "dsm-core/base/thread_safety.hpp"
#include "dsm-core/base/types.hpp"

namespace aep {

namespace detail {
inline constexpr long SYS_FUTEX = 202;
inline constexpr int FUTEX_WAIT = 0;
inline constexpr int FUTEX_WAKE = 1;

struct Timespec {
    long seconds, nanoseconds;
};

/// By hand: the core uses no libc and must leave errno alone. -errno, or what the call returns.
inline long system_call(long number, long a, long b, long c, long d) {
    long result;
    register long fourth asm("r10") = d;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                 : "rcx", "r11", "memory");
    return result;
}

/// futex(2). Interrupted waits are retried by the caller. `timeout`: of a wait; null: none.
inline void futex(std::atomic<u32>* word, int op, u32 value, const Timespec* timeout = nullptr) {
    system_call(SYS_FUTEX, reinterpret_cast<long>(word), op, static_cast<long>(value),
                reinterpret_cast<long>(timeout));
}

/// Sleeps so long, or less if a signal comes.
inline void nap(const Timespec& time) {
    std::atomic<u32> nobody{0};
    futex(&nobody, FUTEX_WAIT, 0, &time);
}
}  // namespace detail

/// A lock in zeroed memory is free. Not recursive; not usable from a signal handler that interrupts
/// its holder.
class AEP_LOCK("lock") Lock {
  public:
    /// Takes the lock; uncontended cost is one compare-and-swap.
    void lock() AEP_TAKES() {
        u32 expected = FREE;
        if (AEP_LIKELY(word_.compare_exchange_strong(expected, HELD, std::memory_order_acquire)))
            return;
        lock_contended();
    }

    bool try_lock() AEP_TRIES() {
        u32 expected = FREE;
        return word_.compare_exchange_strong(expected, HELD, std::memory_order_acquire);
    }

    /// Uncontended cost is one store. A thread that goes to sleep between the load and the store is
    /// not woken by them: that is why nobody sleeps for longer than LONGEST_SLEEP, and at first
    /// for no longer than SHORTEST_SLEEP.
    void unlock() AEP_GIVES() {
        if (AEP_LIKELY(word_.load(std::memory_order_relaxed) == HELD)) {
            // Release: what the holder wrote is visible to the next one.
            word_.store(FREE, std::memory_order_release);
        } else if (word_.exchange(FREE, std::memory_order_release) == CONTENDED) {
            detail::futex(&word_, detail::FUTEX_WAKE, 1);
        }
    }

    /// Makes the lock free whatever it was: for a fork child, where its holder does not exist.
    void reset() { word_.store(FREE, std::memory_order_relaxed); }

  private:
    static constexpr u32 FREE = 0, HELD = 1, CONTENDED = 2;
    static constexpr long SHORTEST_SLEEP = 1'000'000;  // ns
    static constexpr long LONGEST_SLEEP = 32 * SHORTEST_SLEEP;

    void lock_contended() {
        for (int spin = 0; spin < 100; ++spin) {
            u32 expected = FREE;
            if (word_.load(std::memory_order_relaxed) == FREE &&
                word_.compare_exchange_weak(expected, HELD, std::memory_order_acquire))
                return;
            __builtin_ia32_pause();
        }
        // Longer from time to time: thousands that wait would be busy with their timers alone.
        detail::Timespec sleep{0, SHORTEST_SLEEP};
        while (word_.exchange(CONTENDED, std::memory_order_acquire) != FREE) {
            detail::futex(&word_, detail::FUTEX_WAIT, CONTENDED, &sleep);
            if (sleep.nanoseconds < LONGEST_SLEEP) sleep.nanoseconds *= 2;
        }
    }

    std::atomic<u32> word_;
};

/// Holds a Lock for a scope.
class AEP_LOCK_SCOPE LockScope {
  public:
    explicit LockScope(Lock& lock) AEP_TAKES(lock) : lock_(lock) { lock_.lock(); }
    ~LockScope() AEP_GIVES() { lock_.unlock(); }
    LockScope(const LockScope&) = delete;
    LockScope& operator=(const LockScope&) = delete;

  private:
    Lock& lock_;
};

}  // namespace aep
