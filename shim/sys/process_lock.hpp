// Purpose: the locks of this process, of which each thread knows which ones it holds, and which all
//          stand in one list: a fork child finds them free, and a thread whose signal handler has
//          jumped out of their holder gives them back.
// Who calls it: whoever has such a lock; the fork hooks and the slow path, for all of them.
// Crash rule: private to the process.
//
// A lock that a thread without thread-local storage takes, or one of many alike, is a plain Lock,
// and its unit takes part in forks (driver/forking.hpp).
#pragma once

#include "dsm-core/base/lock.hpp"
#include "dsm-core/base/thread_safety.hpp"

namespace aep {

/// Each is one lock. A thread that takes several takes them in this order.
enum class LockName : u32 {
    shared_heap,  // the heap of threads that have none of their own
    start,        // the process's first request
    growth,       // one thread at a time takes chunks from the backing
    purge,        // one thread at a time gives memory back
    thread_key,   // making the key whose destructor tells that a thread ends
    pool_chunks,  // providing and releasing chunks of the pool
    spare_slot,   // the slot of threads that have none of their own
    daemon,       // one question at a time to the context's daemon
    count,
};

class ProcessLock;

namespace detail {
inline constexpr u32 LOCK_COUNT = static_cast<u32>(LockName::count);
/// Those that were ever taken, by their names.
extern std::atomic<ProcessLock*> process_locks[LOCK_COUNT];
/// The locks that the calling thread holds, a bit each; in the upper half those that it holds or is
/// waiting for.
extern __thread u32 held_locks __attribute__((tls_model("initial-exec")));
}  // namespace detail

class AEP_LOCK("lock") ProcessLock {
  public:
    constexpr explicit ProcessLock(LockName name) : name_(static_cast<u32>(name)) {}
    void lock() AEP_TAKES() {
        want();
        lock_.lock();
        detail::held_locks |= bit();
    }
    bool try_lock() AEP_TRIES() {
        want();
        const bool taken = lock_.try_lock();
        if (taken)
            detail::held_locks |= bit();
        else
            detail::held_locks &= ~(bit() << WANTED);
        return taken;
    }
    void unlock() AEP_GIVES() {
        detail::held_locks &= ~bit();
        lock_.unlock();
        detail::held_locks &= ~(bit() << WANTED);
    }
    /// By the calling thread.
    bool held() const { return (detail::held_locks & bit()) != 0; }
    /// Held, or about to be.
    bool wanted() const { return (detail::held_locks & bit() << WANTED) != 0; }

  private:
    friend void free_process_locks();
    static constexpr u32 WANTED = 16;
    static_assert(detail::LOCK_COUNT <= WANTED);

    void want() {
        detail::held_locks |= bit() << WANTED;
        // relaxed: a fork child has all of its parent's stores.
        detail::process_locks[name_].store(this, std::memory_order_relaxed);
    }
    u32 bit() const { return 1u << name_; }

    Lock lock_{};
    u32 name_;
};

/// Holds a ProcessLock for a scope.
class AEP_LOCK_SCOPE ProcessLockScope {
  public:
    explicit ProcessLockScope(ProcessLock& lock) AEP_TAKES(lock) : lock_(lock) { lock_.lock(); }
    ~ProcessLockScope() AEP_GIVES() { lock_.unlock(); }
    ProcessLockScope(const ProcessLockScope&) = delete;
    ProcessLockScope& operator=(const ProcessLockScope&) = delete;

  private:
    ProcessLock& lock_;
};

/// In a fork child, where no other thread exists: all locks are free.
void free_process_locks();

/// A signal handler has jumped out of what the calling thread was in: gives back all that it holds.
void release_held_locks() AEP_NOT_CHECKED;  // the thread knows which they are

}  // namespace aep
