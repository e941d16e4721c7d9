// Purpose: the invariants of heaps and their pages; see check.hpp.
// Who calls it: check.cpp, check_arena.cpp.
// Crash rule: reads only.
#include "dsm-core/heap/check_state.hpp"

namespace aep {

namespace {

uptr address_of(const PageDesc* d) { return slice_address(slice_of(d)); }

}  // namespace

/// Every set bit is that of an extended block; the counter knows how many they are.
bool HeapCheck::live_bits(const PageDesc* d) {
    u32 live = 0;
    for (u32 w = 0; w < MAX_WORDS; ++w) {
        const u64 word = d->bits[w].live;
        const u64 extended = page_extended_mask(d, w);
        if (!require((word & ~extended) == 0, "a live block was never extended", "page",
                     address_of(d), word, extended))
            return false;
        live += bits_in(word);
    }
    if (!require(live == page_out(d), "the count of live blocks is wrong", "page", address_of(d),
                 page_out(d), live))
        return false;
    report_.live_blocks += page_live(d);
    return true;
}

/// The blocks at hand are those of one of the page's words, and taken.
bool HeapCheck::hand(const PageDesc* d) {
    const uptr at = address_of(d);
    const usize w = static_cast<usize>(d->hand_bits - d->bits);
    const u32 turn = d->hand_turn.load(std::memory_order_relaxed);
    return require(w < page_words(d), "the word at hand is not the page's", "page", at, w) &&
           require((d->hand & ~d->bits[w].live) == 0, "a block at hand is a free one", "page", at,
                   d->hand, d->bits[w].live) &&
           require(d->hand_base == at + usize{w} * BLOCKS_A_WORD * d->block_size,
                   "the blocks at hand are elsewhere", "page", at, d->hand_base) &&
           require(turn % MAX_WORDS == w, "the word at hand is another one to others", "page", at,
                   turn, w);
}

bool HeapCheck::page(const PageDesc* d, bool blocks) {
    const uptr at = address_of(d);
    if (!require(d->size_class < CLASS_COUNT, "a page of no size class", "page", at, d->size_class))
        return false;
    const usize size = class_size(d->size_class);
    const u32 slices = page_slices(d->size_class);
    const usize bytes = usize{slices} << SLICE_SHIFT;
    const u32 tag = tag_of(d);
    const SliceIndex s = slice_of(d);
    if (!require(kind_of(tag) == TAG_PAGE, "the tag is not a page's", "page", at, kind_of(tag)) ||
        !require(d->block_size == size, "the block size is not the class's", "page", at,
                 d->block_size, size) ||
        !require(d->slices == slices, "the slices are not the class's", "page", at, d->slices,
                 slices) ||
        !require(d->capacity == bytes / size, "the capacity is not the class's", "page", at,
                 d->capacity, bytes / size) ||
        !require(d->magic == class_magic(d->size_class), "the divisor is not the class's", "page",
                 at, d->magic, class_magic(d->size_class)) ||
        !require(d->bits == block_bits_of(s), "the bitmaps are another slice's", "page", at) ||
        !require(d->extended != 0 && d->extended <= d->capacity, "extended beyond the capacity",
                 "page", at, d->extended, d->capacity) ||
        !require(page_out(d) <= d->extended, "more live blocks than extended ones", "page", at,
                 page_out(d), d->extended) ||
        !hand(d) ||
        !require(d->committed <= bytes, "committed beyond the page", "page", at, d->committed,
                 bytes) ||
        !require(d->extended * size <= d->committed, "extended beyond what can be written", "page",
                 at, d->extended * size, d->committed) ||
        !require(d->touched <= bytes, "touched beyond the page", "page", at, d->touched, bytes) ||
        !require(d->turn_below == page_turn_limit(d), "the limit of turns is wrong", "page", at,
                 d->turn_below, page_turn_limit(d)))
        return false;
    for (u32 i = 1; i < slices; ++i) {
        const u32 tail = tag_of(d + i);
        if (!require(tail == ((tag >> TAG_OWNER_SHIFT << TAG_OWNER_SHIFT) | TAG_TAIL),
                     "a further slice's tag is not the page's", "page", at, tail, tag) ||
            !require(d[i].head_delta == i, "a further slice does not find its page", "page", at,
                     d[i].head_delta, i))
            return false;
    }
    return !blocks || live_bits(d);
}

bool HeapCheck::remote_marks(const PageDesc* d) {
    const u64 summary = d->remote_summary.load(std::memory_order_relaxed);
    u64 words = 0;
    for (u32 w = 0; w < MAX_WORDS; ++w) {
        const u64 marks = d->bits[w].freed.load(std::memory_order_relaxed);
        if (marks == 0) continue;
        words |= u64{1} << w;
        report_.remote_marks += u64{bits_in(marks)};
        if (!require((marks & ~d->bits[w].live) == 0, "a remote mark on a block that is not live",
                     "page", address_of(d), marks, d->bits[w].live))
            return false;
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
    return require(kind_of(tag) == TAG_PAGE, "a heap lists what is no page", "page", address_of(d),
                   tag) &&
           require(tag >> TAG_OWNER_SHIFT == h->id(), "a heap lists another heap's page", "page",
                   address_of(d), tag >> TAG_OWNER_SHIFT, h->id()) &&
           page(d, false);
}

bool HeapCheck::queue(const Heap* h, u32 c, u64& pages_listed) {
    const PageQueue& q = h->queues[c];
    const uptr at = reinterpret_cast<uptr>(h);
    const bool occupied = bit_of(h->occupied[c / 64], c);
    if (!require(occupied == !queue_empty(q), "the occupied bit is wrong for class", "heap", at, c))
        return false;
    if (queue_empty(q)) {
        return require(q.head == h->empty_page, "an empty queue does not point at the empty page",
                       "heap", at, c);
    }
    const PageDesc* before = nullptr;
    for (const PageDesc* d = q.head; d != nullptr; before = d, d = d->next) {
        const Standing standing = q.head == q.last ? Standing::alone : Standing::queued;
        if (!require(++pages_listed <= h->page_count, "a heap lists more pages than it has", "heap",
                     at, h->page_count) ||
            !linked_page(h, d) ||
            !require(d->prev == before, "a queue's links disagree", "page", address_of(d)) ||
            !require(d->size_class == c, "a page is in the queue of another class", "page",
                     address_of(d), d->size_class, c) ||
            !require(d->standing == standing, "a queued page stands elsewhere", "page",
                     address_of(d), static_cast<u64>(d->standing), static_cast<u64>(standing)))
            return false;
    }
    return require(q.last == before, "a queue ends elsewhere", "heap", at, c);
}

bool HeapCheck::direct_table(const Heap* h) {
    for (u32 i = 0; i < DIRECT_COUNT; ++i) {
        const u32 c = class_of(usize{i} * MIN_ALIGNMENT);
        if (!require(h->direct[i] == h->queues[c].head, "a direct entry is not its queue's head",
                     "heap", reinterpret_cast<uptr>(h), i, c))
            return false;
    }
    return true;
}

bool HeapCheck::full_list(const Heap* h, u64& pages_listed) {
    const PageDesc* before = nullptr;
    for (const PageDesc* d = h->full; d != nullptr; before = d, d = d->next)
        if (!require(++pages_listed <= h->page_count, "a heap lists more pages than it has", "heap",
                     reinterpret_cast<uptr>(h), h->page_count) ||
            !linked_page(h, d) ||
            !require(d->prev == before, "the full list's links disagree", "page", address_of(d)) ||
            !require(d->standing == Standing::full, "a page on the full list does not know it",
                     "page", address_of(d)) ||
            !require(!page_must_move(d) && d->until <= page_slack(d),
                     "a page on the full list is not full", "page", address_of(d), page_live(d),
                     d->capacity))
            return false;
    return true;
}

bool HeapCheck::heap_lists(const Heap* h, u64& pages_listed) {
    pages_listed = 0;
    for (u32 c = 0; c < CLASS_COUNT; ++c)
        if (!queue(h, c, pages_listed)) return false;
    return direct_table(h) && full_list(h, pages_listed) &&
           require(pages_listed == h->page_count, "a heap has more pages than it lists", "heap",
                   reinterpret_cast<uptr>(h), h->page_count, pages_listed);
}

}  // namespace aep
