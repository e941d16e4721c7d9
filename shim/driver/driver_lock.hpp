// Purpose: a lock of the driver that knows, for each thread, whether the thread holds it: a signal
//          handler that forks or jumps away asks.
// Who calls it: process.cpp, thread.cpp, slots.cpp.
// Crash rule: private to the process.
#pragma once

#include "dsm-core/base/lock.hpp"

namespace aep {

/// The bits of `held_locks`.
enum HeldLock : u32 {
    HELD_START = 1,
    HELD_GROWTH = 2,
    HELD_PURGE = 4,
    HELD_SHARED_HEAP = 8,
    HELD_SPARE = 16,
};

/// The locks that the calling thread holds; in the upper half those that it holds or is waiting
/// for.
extern __thread u32 held_locks __attribute__((tls_model("initial-exec")));

class DriverLock {
  public:
    constexpr explicit DriverLock(HeldLock bit) : bit_(bit) {}
    void lock() {
        held_locks |= bit_ << WANTED;
        lock_.lock();
        held_locks |= bit_;
    }
    bool try_lock() {
        held_locks |= bit_ << WANTED;
        if (lock_.try_lock()) {
            held_locks |= bit_;
            return true;
        }
        held_locks &= ~(bit_ << WANTED);
        return false;
    }
    void unlock() {
        held_locks &= ~bit_;
        lock_.unlock();
        held_locks &= ~(bit_ << WANTED);
    }
    u32 bit() const { return bit_; }
    bool held() const { return (held_locks & bit_) != 0; }
    /// Held, or about to be.
    bool wanted() const { return (held_locks & bit_ << WANTED) != 0; }
    /// For a thread whose signal handler jumped out of its holder.
    void release_if_held() {
        if (held()) unlock();
    }
    /// For a fork child, where its holder does not exist.
    void reset() { lock_.reset(); }

  private:
    static constexpr u32 WANTED = 16;
    Lock lock_{};
    u32 bit_;
};

class DriverScope {
  public:
    explicit DriverScope(DriverLock& lock) : lock_(lock) { lock_.lock(); }
    ~DriverScope() { lock_.unlock(); }
    DriverScope(const DriverScope&) = delete;
    DriverScope& operator=(const DriverScope&) = delete;

  private:
    DriverLock& lock_;
};

}  // namespace aep
