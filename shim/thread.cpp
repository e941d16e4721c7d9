// Purpose: see thread.hpp.
// Who calls it: shim/allocator.cpp, preload/fork.cpp.
// Crash rule: private to the process.
#include "shim/thread.hpp"

#include <pthread.h>

#include "shim/allocator.hpp"

namespace aep {

namespace {

PageDesc no_page;  // all zero: no free block

/// A heap that owns nothing and serves nothing: every request leaves the fast path.
struct EmptyHeap : Heap {
    constexpr EmptyHeap() : Heap{} {
        for (PageDesc*& d : direct) d = &no_page;
        for (PageQueue& q : queues) q = {&no_page, nullptr};
        tag = ~u32{TAG_KIND_MASK | TAG_REMOTE};
    }
};

constinit EmptyHeap empty_heap;

enum class ThreadState : u8 { fresh, attached, ending };
__thread ThreadState thread_state __attribute__((tls_model("initial-exec"))) = ThreadState::fresh;

/// Its destructor tells us that a thread ends.
std::atomic<bool> key_made{false};
pthread_key_t end_key;
Lock key_lock;

void at_thread_end(void*) { thread_end(); }

bool watch_thread_end() {
    if (!key_made.load(std::memory_order_acquire)) {
        LockScope scope(key_lock);
        if (!key_made.load(std::memory_order_relaxed)) {
            if (pthread_key_create(&end_key, at_thread_end) != 0) return false;
            key_made.store(true, std::memory_order_release);
        }
    }
    return pthread_setspecific(end_key, &end_key) == 0;
}

Heap* acquire_heap() {
    if (!process_start()) return nullptr;
    for (;;) {
        const Reply reply = transact({.op = Op::heap_acquire});
        if (reply.status == Status::ok) return reinterpret_cast<Heap*>(reply.value);
        if (!add_heaps()) return nullptr;
    }
}

Heap* the_shared_heap = nullptr;

}  // namespace

__thread Heap* thread_heap __attribute__((tls_model("initial-exec"))) = &empty_heap;
Lock shared_heap_lock;

Heap* current_heap() { return thread_state == ThreadState::attached ? thread_heap : nullptr; }

Heap* attached_heap() {
    if (AEP_LIKELY(thread_state == ThreadState::attached)) return thread_heap;
    if (thread_state == ThreadState::ending) return nullptr;
    Heap* h = acquire_heap();
    if (h == nullptr) return nullptr;
    // First the heap, then the key: pthread_setspecific may allocate.
    thread_heap = h;
    thread_state = ThreadState::attached;
    if (!watch_thread_end()) {  // nobody would tell us when to abandon it
        thread_end();
        return nullptr;
    }
    return h;
}

Heap* shared_heap() {
    if (the_shared_heap == nullptr) the_shared_heap = acquire_heap();
    return the_shared_heap;
}

void forget_shared_heap() {
    the_shared_heap = nullptr;
    shared_heap_lock.reset();
}

void thread_end() {
    if (thread_state != ThreadState::attached) return;
    Heap* h = thread_heap;
    thread_heap = &empty_heap;
    thread_state = ThreadState::ending;
    const u64 now = now_ms();
    transact({.op = Op::heap_abandon, .a = reinterpret_cast<u64>(h), .now = now});
    purge_if_due(now);
}

}  // namespace aep
