// Purpose: see thread.hpp.
// Who calls it: shim/driver/allocator.cpp, preload/fork.cpp.
// Crash rule: private to the process.
#include "shim/driver/thread.hpp"

#include <pthread.h>

#include "shim/backing/huge_pages.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/context/client.hpp"
#include "shim/context/slots.hpp"
#include "shim/driver/growth.hpp"
#include "shim/driver/process.hpp"
#include "shim/driver/purging.hpp"
#include "shim/driver/transact.hpp"

namespace aep {

namespace {

enum class ThreadState : u8 { fresh, attached, ending };
__thread ThreadState thread_state __attribute__((tls_model("initial-exec"))) = ThreadState::fresh;

/// Its destructor tells us that a thread ends.
std::atomic<bool> key_made{false};
pthread_key_t end_key;
ProcessLock key_lock{LockName::thread_key};

void at_thread_end(void*) { thread_end(); }

bool watch_thread_end() {
    if (!key_made.load(std::memory_order_acquire)) {
        const ProcessLockScope scope(key_lock);
        if (!key_made.load(std::memory_order_relaxed)) {
            if (pthread_key_create(&end_key, at_thread_end) != 0) return false;
            key_made.store(true, std::memory_order_release);
        }
    }
    return pthread_setspecific(end_key, &end_key) == 0;
}

/// `unused`: one without pages.
Heap* acquire_heap(bool unused = false) {
    if (!process_start()) return nullptr;
    for (;;) {
        const auto reply = transact(op::AcquireHeap{.unused = unused});
        if (reply.status == Status::ok) {
            serve_heaps(domain().heaps_used.load(std::memory_order_relaxed));
            return reply.heap;
        }
        if (reply.status != Status::need_heaps || !add_heaps()) return nullptr;
    }
}

void abandon(Heap* h, u64 now) { transact(op::AbandonHeap{.heap = h, .now = now}); }

Heap* the_shared_heap AEP_GUARDED_BY(shared_heap_lock) = nullptr;
Heap* the_sending_heap AEP_GUARDED_BY(shared_heap_lock) = nullptr;
Heap* the_sampled_heap AEP_GUARDED_BY(shared_heap_lock) = nullptr;
u32 sending_since AEP_GUARDED_BY(shared_heap_lock) = 0;  // pool.freezes when it was empty

/// On the slow path. Null: no memory, or a handler asks.
Heap* attach() {
    SlowPath here;
    if (here.nested() || !process_start()) return nullptr;
    if (heap_in_context.load(std::memory_order_relaxed)) take_thread_slot();
    Heap* h = acquire_heap();
    if (h == nullptr) return nullptr;
    own_heap = h;
    // With AEP_PURE the fast path finds an empty heap for ever.
    if (!pure_mode) resting_heap = h;
    thread_state = ThreadState::attached;
    return h;
}

}  // namespace

constinit ProcessLock shared_heap_lock{LockName::shared_heap};

Heap* attached_heap() {
    if (AEP_LIKELY(own_heap != nullptr)) return own_heap;
    if (thread_state == ThreadState::ending) return nullptr;
    Heap* h = attach();
    if (h == nullptr) return nullptr;
    // First the heap, then the key: pthread_setspecific may allocate.
    if (!watch_thread_end()) {  // nobody would tell us when to abandon it
        thread_end();
        return nullptr;
    }
    thread_end_is_heard = true;
    return h;
}

Heap* shared_heap() {
    if (the_shared_heap == nullptr) the_shared_heap = acquire_heap();
    return the_shared_heap;
}

Heap* sending_heap() {
    if (the_sending_heap != nullptr && sending_since != pool.freezes) {  // its pages are private
        Heap* h = the_sending_heap;
        the_sending_heap = nullptr;
        abandon(h, now_ms());
    }
    if (the_sending_heap == nullptr) {
        the_sending_heap = acquire_heap(true);
        sending_since = pool.freezes;
    }
    return the_sending_heap;
}

Heap* sampled_heap() {
    if (the_sampled_heap == nullptr) the_sampled_heap = acquire_heap(true);
    return the_sampled_heap;
}

void forget_shared_heaps() { the_shared_heap = the_sending_heap = the_sampled_heap = nullptr; }

void trim_shared_heaps(u64 now) {
    const ProcessLockScope scope(shared_heap_lock);
    for (Heap* h : {the_shared_heap, the_sending_heap, the_sampled_heap})
        if (h != nullptr) transact(op::Trim{.heap = h, .now = now});
}

void thread_end() {
    if (thread_state != ThreadState::attached) return;
    const u64 now = now_ms();
    {
        SlowPath here;
        thread_state = ThreadState::ending;
        thread_end_is_heard = false;
        // A thread that ends in a signal handler on top of the allocator: its heap is in the middle
        // of a change, and stays behind.
        if (here.nested()) return;
        Heap* h = own_heap;
        own_heap = nullptr;
        resting_heap = &empty_heap;
        abandon(h, now);
        purge_if_due(now);
    }
    if (this_client.joined) give_thread_slot();
}

}  // namespace aep
