// Purpose: the invariants of heaps and their pages; see check.hpp.
// Who calls it: check.cpp, check_arena.cpp.
// Crash rule: reads only.
#include "dsm-core/heap/check_state.hpp"

namespace aep {

namespace {

uptr address_of(const PageDesc* d) { return slice_address(slice_of(d)); }

bool within(const void* p, const MetaArray& array) {
    return reinterpret_cast<uptr>(p) - array.base < array.stride * MAX_SLICES;
}

u64 bit_at(const u64* words, u32 i) { return words[i / 64] >> (i % 64) & 1; }

}  // namespace

/// Marks in `seen` (a bit a block index) every block on the free stack.
bool HeapCheck::free_stack(const PageDesc* d, u64* seen) {
    const uptr at = address_of(d);
    for (u32 i = 1; i <= d->free_count; ++i) {
        const u32 entry = i == d->free_count ? d->top : d->stack[i];
        const u32 offset = entry << d->entry_shift;
        const u32 index = offset / d->block_size;
        const u32 bit = offset >> d->bit_shift;
        if (!require(offset % d->block_size == 0, "a free stack entry is no block's start", "page",
                     at, entry) ||
            !require(index < d->extended, "a free stack entry was never extended", "page", at,
                     index, d->extended) ||
            !require(bit_at(seen, index) == 0, "a block is on the free stack twice", "block",
                     d->base + offset) ||
            !require((d->bits[bit / 64].live >> bit % 64 & 1) == 0,
                     "a live block is on the free stack", "block", d->base + offset)) {
            return false;
        }
        seen[index / 64] |= u64{1} << (index % 64);
    }
    return true;
}

/// Every set bit is at the start of an extended block; together with the stack they are all.
bool HeapCheck::live_bits(const PageDesc* d, const u64* seen) {
    const u32 bits = (d->slices << SLICE_SHIFT) >> d->bit_shift;
    u32 live = 0;
    for (u32 w = 0; w < MAX_BITS / 64; ++w) {
        for (u64 word = d->bits[w].live; word != 0; word &= word - 1) {
            const u32 bit = w * 64 + lowest_bit(word);
            const u32 offset = bit << d->bit_shift;
            const u32 index = offset / d->block_size;
            if (!require(bit < bits, "an alloc bit lies beyond the page", "page", address_of(d),
                         bit, bits) ||
                !require(offset % d->block_size == 0, "an alloc bit is no block's start", "page",
                         address_of(d), offset, d->block_size) ||
                !require(index < d->extended, "a live block was never extended", "page",
                         address_of(d), index, d->extended) ||
                !require(bit_at(seen, index) == 0, "a live block is on the free stack", "block",
                         d->base + offset)) {
                return false;
            }
            ++live;
        }
    }
    report_.live_blocks += live;
    return require(live + d->free_count == d->extended, "blocks are neither live nor free", "page",
                   address_of(d), live + d->free_count, d->extended);
}

bool HeapCheck::page(const PageDesc* d, bool blocks) {
    const uptr at = address_of(d);
    if (!require(d->size_class < CLASS_COUNT, "a page of no size class", "page", at,
                 d->size_class)) {
        return false;
    }
    const usize size = class_size(d->size_class);
    const u32 slices = page_slices(d->size_class);
    const bool small = slices == 1;
    const usize bytes = usize{slices} << SLICE_SHIFT;
    const u32 tag = tag_of(d);
    const u32 kind = small ? u32{bit_shift_of(size)} : u32{TAG_MEDIUM};
    const SliceIndex s = slice_of(d);
    const MetaArray& home = d->capacity <= 256    ? STACKS_512
                            : d->capacity <= 1024 ? STACKS_2K
                                                  : STACKS_8K;
    if (!require(kind_of(tag) == kind, "the tag's kind is not the class's", "page", at,
                 kind_of(tag), kind) ||
        !require(d->block_size == size, "the block size is not the class's", "page", at,
                 d->block_size, size) ||
        !require(d->slices == slices, "the slices are not the class's", "page", at, d->slices,
                 slices) ||
        !require(d->capacity == bytes / size, "the capacity is not the class's", "page", at,
                 d->capacity, bytes / size) ||
        !require(d->bit_shift == bit_shift_of(size), "the granule is not the class's", "page", at,
                 d->bit_shift, bit_shift_of(size)) ||
        !require(d->entry_shift == (small ? 0 : 4), "the entry shift is not the class's", "page",
                 at, d->entry_shift) ||
        !require(d->base == at, "the base is not the page's address", "page", at, d->base, at) ||
        !require(d->bits == block_bits_of(s), "the bitmaps are another slice's", "page", at) ||
        !require(within(d->stack, home), "the free stack lies in the wrong array", "page", at) ||
        !require(d->extended != 0 && d->extended <= d->capacity, "extended beyond the capacity",
                 "page", at, d->extended, d->capacity) ||
        !require(d->free_count <= d->extended, "more free blocks than extended ones", "page", at,
                 d->free_count, d->extended) ||
        !require(d->committed <= bytes, "committed beyond the page", "page", at, d->committed,
                 bytes) ||
        !require(d->extended * size <= d->committed, "extended beyond what can be written", "page",
                 at, d->extended * size, d->committed) ||
        !require(d->touched <= bytes, "touched beyond the page", "page", at, d->touched, bytes)) {
        return false;
    }
    for (u32 i = 1; i < slices; ++i) {
        const u32 tail = tag_of(d + i);
        if (!require(tail == ((tag >> TAG_OWNER_SHIFT << TAG_OWNER_SHIFT) | TAG_TAIL),
                     "a further slice's tag is not the page's", "page", at, tail, tag) ||
            !require(d[i].head_delta == i, "a further slice does not find its page", "page", at,
                     d[i].head_delta, i)) {
            return false;
        }
    }
    if (!blocks) return true;
    u64 seen[MAX_BITS / 64] = {};
    return free_stack(d, seen) && live_bits(d, seen);
}

bool HeapCheck::remote_marks(const PageDesc* d) {
    const u64 summary = d->remote_summary.load(std::memory_order_relaxed);
    u64 words = 0;
    for (u32 w = 0; w < MAX_BITS / 64; ++w) {
        const u64 marks = d->bits[w].freed.load(std::memory_order_relaxed);
        if (marks == 0) continue;
        words |= u64{1} << w;
        report_.remote_marks += static_cast<u64>(__builtin_popcountll(marks));
        if (!require((marks & ~d->bits[w].live) == 0, "a remote mark on a block that is not live",
                     "page", address_of(d), marks, d->bits[w].live)) {
            return false;
        }
    }
    return require(summary == 0 || (tag_of(d) & TAG_REMOTE) != 0,
                   "a page with remote marks has no remote flag", "page", address_of(d), summary) &&
           require((words & ~summary) == 0, "remote marks that the summary does not name", "page",
                   address_of(d), summary, words) &&
           require(summary == 0 || d->remote_queued.load(std::memory_order_relaxed) != 0,
                   "a page with remote marks is on no list: they are never collected", "page",
                   address_of(d));
}

/// What holds of a page on any list of heap `h`.
bool HeapCheck::linked_page(const Heap* h, const PageDesc* d) {
    const u32 tag = tag_of(d);
    return require(is_page_kind(kind_of(tag)), "a heap lists what is no page", "page",
                   address_of(d), tag) &&
           require(tag >> TAG_OWNER_SHIFT == h->id(), "a heap lists another heap's page", "page",
                   address_of(d), tag >> TAG_OWNER_SHIFT, h->id()) &&
           page(d, false);
}

bool HeapCheck::queue(const Heap* h, u32 c, u64& pages_listed) {
    const PageQueue& q = h->queues[c];
    const uptr at = reinterpret_cast<uptr>(h);
    const bool occupied = bit_at(h->occupied, c) != 0;
    if (!require(occupied == !queue_empty(q), "the occupied bit is wrong for class", "heap", at,
                 c)) {
        return false;
    }
    if (queue_empty(q)) {
        return require(q.head == h->empty_page, "an empty queue does not point at the empty page",
                       "heap", at, c);
    }
    const PageDesc* before = nullptr;
    for (const PageDesc* d = q.head; d != nullptr; before = d, d = d->next) {
        const u32 limit = q.head == q.last ? NEVER_EMPTY : d->extended - 1;
        if (!require(++pages_listed <= h->page_count, "a heap lists more pages than it has", "heap",
                     at, h->page_count) ||
            !linked_page(h, d) ||
            !require(d->prev == before, "a queue's links disagree", "page", address_of(d)) ||
            !require(d->size_class == c, "a page is in the queue of another class", "page",
                     address_of(d), d->size_class, c) ||
            !require(d->in_full_list == 0, "a queued page says that it is full", "page",
                     address_of(d)) ||
            !require(d->free_limit == limit, "a queued page has the wrong free limit", "page",
                     address_of(d), d->free_limit, limit)) {
            return false;
        }
    }
    return require(q.last == before, "a queue ends elsewhere", "heap", at, c);
}

bool HeapCheck::direct_table(const Heap* h) {
    for (u32 i = 0; i < DIRECT_COUNT; ++i) {
        const u32 c = class_of(usize{i} * MIN_ALIGNMENT);
        if (!require(h->direct[i] == h->queues[c].head, "a direct entry is not its queue's head",
                     "heap", reinterpret_cast<uptr>(h), i, c)) {
            return false;
        }
    }
    return true;
}

bool HeapCheck::full_list(const Heap* h, u64& pages_listed) {
    const PageDesc* before = nullptr;
    for (const PageDesc* d = h->full; d != nullptr; before = d, d = d->next) {
        if (!require(++pages_listed <= h->page_count, "a heap lists more pages than it has", "heap",
                     reinterpret_cast<uptr>(h), h->page_count) ||
            !linked_page(h, d) ||
            !require(d->prev == before, "the full list's links disagree", "page", address_of(d)) ||
            !require(d->in_full_list == 1, "a page on the full list does not know it", "page",
                     address_of(d)) ||
            !require(d->free_limit == 0, "a full page has a free limit", "page", address_of(d),
                     d->free_limit) ||
            !require(d->free_count == 0, "a page on the full list has free blocks", "page",
                     address_of(d), d->free_count) ||
            !require(d->extended == d->capacity, "a page on the full list could be extended",
                     "page", address_of(d), d->extended, d->capacity)) {
            return false;
        }
    }
    return true;
}

bool HeapCheck::heap_lists(const Heap* h, u64& pages_listed) {
    pages_listed = 0;
    for (u32 c = 0; c < CLASS_COUNT; ++c) {
        if (!queue(h, c, pages_listed)) return false;
    }
    return direct_table(h) && full_list(h, pages_listed) &&
           require(pages_listed == h->page_count, "a heap has more pages than it lists", "heap",
                   reinterpret_cast<uptr>(h), h->page_count, pages_listed);
}

}  // namespace aep
