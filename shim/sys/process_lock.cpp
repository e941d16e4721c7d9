// Purpose: see process_lock.hpp.
// Who calls it: see process_lock.hpp.
// Crash rule: see process_lock.hpp.
#include "shim/sys/process_lock.hpp"

namespace aep {

namespace detail {
constinit std::atomic<ProcessLock*> process_locks[LOCK_COUNT] = {};
__thread u32 held_locks __attribute__((tls_model("initial-exec"))) = 0;
}  // namespace detail

void free_process_locks() {
    for (const auto& each : detail::process_locks) {
        ProcessLock* lock = each.load(std::memory_order_relaxed);
        if (lock != nullptr) lock->lock_.reset();
    }
    detail::held_locks = 0;
}

void release_held_locks() {
    for (const auto& each : detail::process_locks) {
        ProcessLock* lock = each.load(std::memory_order_relaxed);
        if (lock != nullptr && lock->held()) lock->unlock();
    }
    detail::held_locks = 0;
}

}  // namespace aep
