// Purpose: see watched.hpp.
// Who calls it: see watched.hpp.
// Crash rule: see watched.hpp.
#include "shim/driver/watched.hpp"

#include <errno.h>

#include "shim/driver/growth.hpp"
#include "shim/driver/process.hpp"
#include "shim/driver/purging.hpp"
#include "shim/driver/report.hpp"
#include "shim/driver/thread.hpp"
#include "shim/watch/guard.hpp"
#include "shim/watch/samples.hpp"

namespace aep {

__thread i32 medium_credit AEP_TLS = 0;

namespace {

/// The calling thread's stack, whose unwinder may allocate or change errno.
void note_with_stack(const void* p, usize size) {
    const int saved = errno;
    meter.set_busy(true);
    CallStack stack;
    capture_call_stack(stack);
    note_sample(reinterpret_cast<uptr>(p), size, stack);
    meter.set_busy(false);
    errno = saved;
}

/// Frees in the page, or of the large object, ask first.
void tag_page(PageDesc* d) {
    // relaxed: who is given the block by another thread sees what that one saw.
    if ((d->tag.load(std::memory_order_relaxed) & TAG_SHARED) == 0)
        d->tag.fetch_or(TAG_SHARED, std::memory_order_relaxed);
}

/// A block of class `c` on a page where samples lie; null: no memory.
void* sampled_block(u32 c, bool& fresh_zero) {
    const SlowPath here;
    if (here.nested()) return nullptr;
    const ProcessLockScope scope(shared_heap_lock);
    Heap* const h = sampled_heap();
    if (h == nullptr) return nullptr;
    PageDesc* d = h->queues[c].head;
    if (!heap_refill(h, d))
        d = refill({.heap = h, .size_class = c, .now = now_ms(), .own_only = true, .fresh = true});
    uptr block = 0;
    if (d == nullptr || !page_take_tracked(d, block, fresh_zero)) return nullptr;
    // Pages of the direct classes do not know it.
    if (c <= LAST_DIRECT_CLASS) fresh_zero = false;
    tag_page(d);
    return reinterpret_cast<void*>(block);
}

void* guarded_block(usize size, usize alignment) {
    const int saved = errno;
    meter.set_busy(true);
    void* const p = guard_allocate(size, alignment);
    meter.set_busy(false);
    errno = saved;
    return p;
}

}  // namespace

bool pay_for_hand(PageDesc* d) {
    const u32 count = bits_in(page_hand(d));
    const u32 may = meter.afford(count, d->block_size);
    if (may != count) page_give_hand(d, may);
    return may != 0;
}

void pay_for_hand_of(Heap* h, u32 c) {
    PageDesc* const d = h->queues[c].head;
    if (c <= LAST_DIRECT_CLASS && !pure_mode && page_hand(d) != 0) pay_for_hand(d);
}

void* allocate_here_watched(usize size) {
    Heap* h = thread_heap;
    uptr block;
    if (meter.due() != 0) return nullptr;
    if (size <= MAX_DIRECT) {
        PageDesc* d = h->direct[direct_index(size)];
        if (!heap_refill(h, d) || !pay_for_hand(d) || !page_take(d, block)) return nullptr;
        return reinterpret_cast<void*>(block);
    }
    // What the short path has handed out since the credit was given. This request has used it, too, but is not paid for.
    static __thread i32 given AEP_TLS = 0;
    static __thread i32 until_look AEP_TLS = 0;
    const i32 used = given - medium_credit;
    meter.spend(i64{used} - static_cast<i64>(size));
    const bool may = size <= MAX_CLASS_SIZE && meter.afford(1, size) != 0;
    given = medium_credit = static_cast<i32>(meter.may_spend(BYTES_PER_LOOK));
    bool fresh_zero;
    if (!may || !heap_take(h, class_of(size), block, fresh_zero)) return nullptr;
    until_look -= used;
    if (until_look < 0) {
        until_look = BYTES_PER_LOOK;
        look_at_clock();
    }
    return reinterpret_cast<void*>(block);
}

bool is_to_be_watched(u32 c) {
    return meter.due() != 0 || (c <= LAST_DIRECT_CLASS && meter.afford(1, class_size(c)) == 0);
}

void* allocate_watched(usize size, usize alignment, bool& fresh_zero) {
    const u32 due = meter.take_due();
    if ((due & WATCH_GUARD) != 0) {
        if (void* const p = guarded_block(size, alignment)) {
            fresh_zero = true;
            return p;
        }
    }
    if ((due & WATCH_PROFILE) == 0 || size > MAX_CLASS_SIZE || alignment > SLICE_SIZE)
        return nullptr;
    const u32 c = class_of_aligned(size, alignment);
    if (c >= CLASS_COUNT) return nullptr;
    void* const p = sampled_block(c, fresh_zero);
    // As it was paid for: small blocks by what they have, larger ones by what was asked for.
    if (p != nullptr) note_with_stack(p, size <= MAX_DIRECT ? class_size(c) : size);
    return p;
}

void watch_large(void* p, usize size) {
    if (meter.afford(1, size) != 0 || (meter.take_due() & WATCH_PROFILE) == 0) return;
    tag_page(desc_at(reinterpret_cast<uptr>(p)));
    note_with_stack(p, size);
}

void watch_resized(void* p, usize old_size, usize size) {
    if (forget_sample(reinterpret_cast<uptr>(p)) != 0)
        note_with_stack(p, size);
    else if (size > old_size)
        watch_large(p, size - old_size);
}

void unwatch(const void* p) { forget_sample(reinterpret_cast<uptr>(p)); }

void deallocate_guarded(void* p) {
    meter.set_busy(true);
    const bool is_good = guard_free(p);
    meter.set_busy(false);
    if (!is_good) after_bad_free();
}

}  // namespace aep
