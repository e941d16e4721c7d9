// Purpose: the lists of a heap; see heap.hpp.
// Who calls it: ops.cpp.
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
void refresh_limit(PageQueue& q, PageDesc* d) {
    d->free_limit = q.head == q.last ? NEVER_EMPTY : d->extended - 1;
}

}  // namespace

void heap_init(Heap* h, u32 id, PageDesc* empty_page) {
    h->tag = id << TAG_OWNER_SHIFT;
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
        if (before->free_limit == NEVER_EMPTY) refresh_limit(q, before);
    }
    refresh_limit(q, d);
}

void heap_dequeue(Heap* h, PageDesc* d) {
    PageQueue& q = h->queues[d->size_class];
    if (d->next != nullptr) {
        d->next->prev = d->prev;
    } else {
        q.last = d->prev;
    }
    if (d->prev != nullptr) {
        d->prev->next = d->next;
    } else {
        q.head = d->next != nullptr ? d->next : h->empty_page;
        refresh_direct(h, d->size_class);
    }
    if (q.last != nullptr && q.head == q.last) refresh_limit(q, q.last);
    d->next = d->prev = nullptr;
    if (queue_empty(q)) h->occupied[d->size_class / 64] &= ~(u64{1} << (d->size_class % 64));
}

void heap_add_full(Heap* h, PageDesc* d) {
    d->in_full_list = 1;
    d->free_limit = 0;
    d->prev = nullptr;
    d->next = h->full;
    if (h->full != nullptr) h->full->prev = d;
    h->full = d;
}

void heap_remove_full(Heap* h, PageDesc* d) {
    if (d->next != nullptr) d->next->prev = d->prev;
    if (d->prev != nullptr) {
        d->prev->next = d->next;
    } else {
        h->full = d->next;
    }
    d->next = d->prev = nullptr;
    d->in_full_list = 0;
}

}  // namespace aep
