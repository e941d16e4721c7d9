// Purpose: the locks of this folder, of which each thread knows which kinds it holds: a signal handler on top of a
//          holder is refused instead of waiting for ever.
// Who calls it: group_view.hpp, guests.cpp, peer_table.cpp, share_fd.cpp.
// Crash rule: private to the process.
//
// (They are no ProcessLocks: views have many that are alike, and the descriptor's is taken by a thread without
// thread-local storage, too, which no handler interrupts.)
#pragma once

#include "dsm-core/base/lock.hpp"

namespace aep {

/// A thread that takes two takes them in this order.
enum class HeldKind : u32 { descriptor = 1, view = 2, guests = 4, peers = 8 };

/// Those that the calling thread holds or is about to hold.
extern __thread u32 held_kinds __attribute__((tls_model("initial-exec")));

/// Holds a lock for a scope, unless it is refused: the calling thread, below this handler, holds one that may not
/// come before it.
class AEP_LOCK_SCOPE HeldLock {
  public:
    HeldLock(Lock& lock, HeldKind kind) AEP_TAKES(lock) AEP_NOT_CHECKED
        : lock_(lock),
          bit_(static_cast<u32>(kind)),
          refused_(held_kinds >= static_cast<u32>(kind)) {
        if (AEP_UNLIKELY(refused_)) return;
        held_kinds |= bit_;
        std::atomic_signal_fence(std::memory_order_seq_cst);  // before it can be held
        lock_.lock();
    }
    ~HeldLock() AEP_GIVES() AEP_NOT_CHECKED {
        if (AEP_UNLIKELY(refused_)) return;
        lock_.unlock();
        std::atomic_signal_fence(std::memory_order_seq_cst);  // after it was held
        held_kinds &= ~bit_;
    }
    HeldLock(const HeldLock&) = delete;
    HeldLock& operator=(const HeldLock&) = delete;

    bool refused() const { return refused_; }

  private:
    Lock& lock_;
    const u32 bit_;
    const bool refused_;
};

}  // namespace aep
