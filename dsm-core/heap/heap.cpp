// Purpose: the lists of a heap; see heap.hpp.
// Who calls it: op/heap_ops.cpp.
// Crash rule: only inside an operation.
#include "dsm-core/heap/heap.hpp"

namespace aep {

namespace {

/// Points the direct entries that `size_class` serves at the queue's head.
void refresh_direct(Heap* h, u32 size_class) {
    const usize size = class_size(size_class);
    if (size > MAX_DIRECT) return;
    PageDesc* head = h->queues[size_class].head;
    const usize begin = size_class == 0 ? 0 : direct_index(class_size(size_class - 1)) + 1;
    for (usize i = begin; i <= direct_index(size); ++i) h->direct[i] = head;
}

/// A page alone in its queue stays when it becomes empty; others are released then.
void refresh_standing(const PageQueue& q, PageDesc* d) {
    page_set_standing(d, q.head == q.last ? Standing::alone : Standing::queued);
}

}  // namespace

void heap_init(Heap* h, u32 id, PageDesc* empty_page) {
    h->tag = make_tag(id, TAG_PAGE);
    h->empty_page = empty_page;
    for (PageDesc*& d : h->direct) d = empty_page;
    for (PageQueue& q : h->queues) q = {empty_page, nullptr};
}

void heap_enqueue(Heap* h, PageDesc* d) {
    PageQueue& q = h->queues[d->size_class];
    d->next = nullptr;
    d->prev = q.last;
    if (q.last == nullptr) {
        q.head = q.last = d;
        h->occupied[d->size_class / 64] |= u64{1} << (d->size_class % 64);
        refresh_direct(h, d->size_class);
    } else {
        PageDesc* before = q.last;
        before->next = d;
        q.last = d;
        if (before->standing == Standing::alone) refresh_standing(q, before);
    }
    refresh_standing(q, d);
}

void heap_dequeue(Heap* h, PageDesc* d) {
    PageQueue& q = h->queues[d->size_class];
    if (d->next != nullptr)
        d->next->prev = d->prev;
    else
        q.last = d->prev;
    if (d->prev != nullptr) {
        d->prev->next = d->next;
    } else {
        q.head = d->next != nullptr ? d->next : h->empty_page;
        refresh_direct(h, d->size_class);
    }
    if (q.last != nullptr && q.head == q.last) refresh_standing(q, q.last);
    d->next = d->prev = nullptr;
    if (queue_empty(q)) h->occupied[d->size_class / 64] &= ~(u64{1} << (d->size_class % 64));
}

void heap_add_full(Heap* h, PageDesc* d) {
    page_set_standing(d, Standing::full);
    d->prev = nullptr;
    d->next = h->full;
    if (h->full != nullptr) h->full->prev = d;
    h->full = d;
}

void heap_remove_full(Heap* h, PageDesc* d) {
    if (d->next != nullptr) d->next->prev = d->prev;
    if (d->prev != nullptr)
        d->prev->next = d->next;
    else
        h->full = d->next;
    d->next = d->prev = nullptr;
    page_set_standing(d, Standing::queued);
}

void heap_unfile_full(Heap* h, PageDesc* d) {
    heap_remove_full(h, d);
    heap_enqueue(h, d);
}

bool heap_fill_hand(const Heap* h, PageDesc* d) {
    const bool nothing_comes = h->remote_pages.load(std::memory_order_relaxed) == nullptr;
    if (nothing_comes && page_is_tight(d)) {
        if (page_extend(d)) return true;
        if (page_awaits_memory(d)) return false;  // the driver commits it
    }
    return page_seek(d) || (nothing_comes && page_extend(d));
}

}  // namespace aep
