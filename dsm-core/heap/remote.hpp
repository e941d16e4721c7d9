// Purpose: how a page with remote frees reaches its owner, although the owner may change at any
// moment. Who calls it: op/heap_ops.cpp (queue_page, drain), adoption. Crash rule: inside an operation. A
// page is on at most one list (remote_queued); a page that reached the list of a
//             heap that no longer owns it is sent on by whoever finds it there.
//
// What two at once may see. The list is pushed to by anybody and taken as a whole.
//
//   requeue | requeue, one page  one pushes; the other finds the flag set, and its mark is seen by
//                                whoever takes the page off: the flag goes before the summary is taken
//   push | push                  both are on the list, in either order
//   push | take all              taken with the others, or the first of the next list
//   push | adoption              the pusher reads the owner again afterwards, the adopter empties the
//                                old list after it has changed all owners: one of them sends it on
//   requeue | unqueue, collect   the mark is collected, or the page is queued once more, for nothing
//                                perhaps
#pragma once

#include "dsm-core/heap/crash_points.hpp"
#include "dsm-core/heap/domain.hpp"

namespace aep {

inline u32 owner_of(const PageDesc* d) {
    return d->tag.load(std::memory_order_seq_cst) >> TAG_OWNER_SHIFT;
}

/// Takes a page off the list it was popped from. seq_cst: before the summary is taken, so that a
/// freer who finds the flag still set knows that its mark will be seen.
inline void remote_unqueue(PageDesc* d) { d->remote_queued.exchange(0, std::memory_order_seq_cst); }

/// Queues a page to its owner, if it is on no list yet. Lock-free.
inline void remote_requeue(PageDesc* d) {
    if (d->remote_queued.exchange(1, std::memory_order_seq_cst) != 0) return;
    AEP_HEAP_CRASH_POINT("remote: flag set");
    d->remote_next = nullptr;
    // Pages that we have to bring to their owners. Their flag stays set on the way, so that nobody
    // else queues them, and whoever frees a block meanwhile knows that its mark will be seen.
    PageDesc* pending = d;
    while (pending != nullptr) {
        PageDesc* page = pending;
        pending = page->remote_next;
        const u32 owner = owner_of(page);
        Heap* h = heap_of_id(owner);
        PageDesc* head = h->remote_pages.load(std::memory_order_relaxed);
        do {
            page->remote_next = head;
        } while (!h->remote_pages.compare_exchange_weak(head, page, std::memory_order_seq_cst));
        AEP_HEAP_CRASH_POINT("remote: queued");
        if (AEP_LIKELY(owner_of(page) == owner)) continue;
        // The page was adopted meanwhile, and its adopter may have looked at the old list before we
        // pushed: send on all of it.
        PageDesc* strays = h->remote_pages.exchange(nullptr, std::memory_order_seq_cst);
        if (strays == nullptr) continue;
        PageDesc* last = strays;
        while (last->remote_next != nullptr) last = last->remote_next;
        last->remote_next = pending;
        pending = strays;
    }
}

}  // namespace aep
