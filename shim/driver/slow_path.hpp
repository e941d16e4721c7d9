// Purpose: a thread's way into and out of everything beyond the inline fast path. Meanwhile its
//          heap pointer names the empty heap, so that a signal handler on top of it reaches neither
//          the heap nor a lock that the thread holds.
// Who calls it: allocator.cpp, thread.cpp.
// Crash rule: private to the thread.
//
// A handler's request finds `nested()` true and is served otherwise: malloc from the emergency
// area, free by a mark or the deferred list. A handler that jumps away (longjmp) leaves the thread
// here; the next request that is not below such a handler finds out and tidies up.
//
// What a thread and a handler on top of it may see of each other:
//
//   enter | handler     it finds the heap at rest, and uses it; or the empty heap and this frame: nested
//   inside | handler    nested; but with the frame's marker gone, or above it: it was jumped out of, and is tidied up
//   leave | handler     it finds the empty heap, or the heap at rest: both serve it
//   defer_free | leave  freed as the thread leaves, or by the next who does: the list is taken as a whole
//   defer_free | defer_free, one object: one puts it on the list, the other is told that it is not live
#pragma once

#include "dsm-core/heap/heap.hpp"

namespace aep {

/// A heap that owns nothing and serves nothing: every request leaves the fast path.
struct EmptyHeap : Heap {
    constexpr EmptyHeap();
};
extern EmptyHeap empty_heap;

#define AEP_TLS __attribute__((tls_model("initial-exec")))
/// What the fast path uses: the calling thread's heap, or the empty heap. Never null.
extern __thread Heap* thread_heap AEP_TLS;
/// Its tag: what free compares with.
extern __thread u32 thread_tag AEP_TLS;
/// What it is outside the slow path.
extern __thread Heap* resting_heap AEP_TLS;
/// The calling thread's own heap, whether it is at rest or not; null: it has none.
extern __thread Heap* own_heap AEP_TLS;
/// Where the thread entered the slow path; null: it is outside.
extern __thread const void* slow_frame AEP_TLS;
/// Large objects that handlers have freed meanwhile.
extern __thread std::atomic<PageDesc*> deferred_frees AEP_TLS;

/// Makes the calling thread's fast path use `h`.
inline void use_heap(Heap* h) {
    thread_heap = h;
    thread_tag = h->tag;
}

/// The calling thread's heap if it has one, without attaching.
inline Heap* current_heap() { return own_heap; }

/// One stay of the thread on the slow path; a scope.
class SlowPath {
  public:
    SlowPath() {
        if (AEP_UNLIKELY(slow_frame != nullptr) && handler_on_top()) {
            nested_ = true;
            return;
        }
        marker_ = this;
        slow_frame = this;
        // A handler that comes here between the two still finds a heap at rest.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        use_heap(&empty_heap);
        std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    ~SlowPath() {
        if (AEP_UNLIKELY(nested_)) return;
        std::atomic_signal_fence(std::memory_order_seq_cst);
        use_heap(resting_heap);
        std::atomic_signal_fence(std::memory_order_seq_cst);
        slow_frame = nullptr;
        marker_ = nullptr;
        std::atomic_signal_fence(std::memory_order_seq_cst);
        if (AEP_UNLIKELY(deferred_frees.load(std::memory_order_relaxed) != nullptr))
            free_deferred();
    }
    SlowPath(const SlowPath&) = delete;
    SlowPath& operator=(const SlowPath&) = delete;

    /// True below a signal handler that interrupted this thread's slow path: the heap, the locks
    /// and the thread's slot must not be touched.
    bool nested() const { return nested_; }

  private:
    /// Whether a handler runs on top of the frame; else it has jumped away, and what it left is
    /// tidied up.
    static bool handler_on_top();
    static void free_deferred();

    const void* marker_ = nullptr;  // says that the frame is still there
    bool nested_ = false;
};

/// free of the large object with that descriptor, by a handler: done when the thread leaves the
/// slow path. False: a handler has freed it already.
bool defer_free(PageDesc* large);

}  // namespace aep
