// Purpose: see slow_path.hpp.
// Who calls it: allocator.cpp, thread.cpp.
// Crash rule: see slow_path.hpp.
#include "shim/driver/slow_path.hpp"

#include <signal.h>

#include "shim/context/slots.hpp"
#include "shim/driver/report.hpp"
#include "shim/driver/transact.hpp"
#include "shim/sys/clock.hpp"
#include "shim/sys/process_lock.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

namespace {

PageDesc no_page;  // all zero: no block, and never one

/// No page's owner.
constexpr u32 NOBODY = ~u32{0} >> TAG_OWNER_SHIFT;

}  // namespace

constexpr EmptyHeap::EmptyHeap() : Heap{} {
    for (PageDesc*& d : direct) d = &no_page;
    for (PageQueue& q : queues) q = {&no_page, nullptr};
    tag = make_tag(NOBODY, TAG_PAGE);
}

constinit EmptyHeap empty_heap;
__thread Heap* thread_heap AEP_TLS = &empty_heap;
__thread u32 thread_tag AEP_TLS = make_tag(NOBODY, TAG_PAGE);
__thread Heap* resting_heap AEP_TLS = &empty_heap;
__thread Heap* own_heap AEP_TLS = nullptr;
__thread const void* slow_frame AEP_TLS = nullptr;
__thread std::atomic<PageDesc*> deferred_frees AEP_TLS = nullptr;

namespace {
__thread bool given_up AEP_TLS = false;  // its open operation cannot be completed

/// Whether the calling thread runs on its alternative signal stack.
bool on_signal_stack() {
    stack_t now{};
    return !sys::failed(sys::call(__NR_sigaltstack, 0, sys::word(&now))) &&
           (now.ss_flags & SS_ONSTACK) != 0;
}

}  // namespace

bool SlowPath::handler_on_top() {
    if (given_up) return true;
    const uptr here = reinterpret_cast<uptr>(__builtin_frame_address(0));
    if (on_image_stack(here) || on_signal_stack()) return true;
    if (!inside_image()) {
        // Below the frame, on the same stack, with the frame still there.
        const uptr frame = reinterpret_cast<uptr>(slow_frame);
        const auto* entered = static_cast<const SlowPath*>(slow_frame);
        if (here < frame && entered->marker_ == entered) return true;
    }
    if (!finish_left_operation()) {
        given_up = true;
        return true;
    }
    release_held_locks();
    leave_operations(current_heap());
    return false;
}

void SlowPath::free_deferred() {
    const SlowPath here;
    PageDesc* d = deferred_frees.exchange(nullptr, std::memory_order_acq_rel);
    while (d != nullptr) {
        PageDesc* next = d->remote_next;
        const uptr block = base_of(d);
        // release: the next handler that frees an object here finds the link unused.
        d->remote_queued.store(0, std::memory_order_release);
        const auto r = transact(op::FreeLarge{.address = block, .now = now_ms()});
        if (r.status != Status::ok) report_bad_free(block, BadFree::not_live);
        d = next;
    }
}

bool defer_free(PageDesc* large) {
    // The flag that says "on a list" for pages is unused in large objects.
    if (large->remote_queued.exchange(1, std::memory_order_acq_rel) != 0) return false;
    PageDesc* head = deferred_frees.load(std::memory_order_relaxed);
    do {
        large->remote_next = head;
    } while (!deferred_frees.compare_exchange_weak(head, large, std::memory_order_acq_rel));
    return true;
}

}  // namespace aep
