// Purpose: birth, growth, collection and repair of pages.
// Who calls it: the heap's slow path; page_seek and page_extend also malloc when a word of blocks
// is used up; page_rebuild also recovery and the fork child. Crash rule: see page.hpp; page_init
// publishes the tag last.
#include "dsm-core/heap/page.hpp"

namespace aep {

void page_init(PageDesc* d, u32 size_class, u32 owner, bool zero, usize committed) {
    const SliceIndex s = slice_of(d);
    const usize size = class_size(size_class);
    const u32 slices = page_slices(size_class);
    const usize bytes = usize{slices} << SLICE_SHIFT;
    d->bits = block_bits_of(s);
    d->block_size = static_cast<u32>(size);
    d->until = 0;
    d->extended = 0;
    d->touched = zero ? 0 : static_cast<u32>(bytes);
    d->magic = class_magic(size_class);
    d->capacity = static_cast<u16>(bytes / size);
    d->size_class = static_cast<u8>(size_class);
    d->standing = Standing::queued;
    d->slices = slices;
    d->committed = committed;
    d->next = d->prev = nullptr;
    d->hand = 0;
    page_name_word(d, 0);
    d->turn_below = page_turn_limit(d);
    for (u32 i = 1; i < slices; ++i) {
        d[i].head_delta = i;
        d[i].tag.store(make_tag(owner, TAG_TAIL), std::memory_order_relaxed);
    }
    // Release: whoever reads the tag sees the fields above.
    d->tag.store(make_tag(owner, TAG_PAGE), std::memory_order_release);
}

bool page_seek(PageDesc* d, bool thorough) {
    if (page_hand(d) != 0) return true;
    // An empty queue's page has no blocks.
    if (page_free(d) == 0 || (page_is_spent(d) && !thorough)) return false;
    const u32 words = (d->extended + BLOCKS_A_WORD - 1) / BLOCKS_A_WORD;
    const u32 last = page_hand_word(d);
    for (u32 w = last + 1; w < words; ++w)
        if (page_take_word(d, w)) return true;
    for (u32 w = 0; w <= last; ++w)
        if (page_take_word(d, w)) return true;
    return false;
}

bool page_extend(PageDesc* d) {
    if (d->extended == d->capacity) return false;
    const u32 writable = blocks_in(static_cast<u32>(d->committed), d->magic);
    const u32 limit = writable < d->capacity ? writable : d->capacity;
    if (AEP_UNLIKELY(limit <= d->extended)) return false;
    // An OS page or four blocks at first, then as many as there are: no more than this word's.
    const u32 w = d->extended / BLOCKS_A_WORD;
    const u32 first_step = blocks_in(OS_PAGE_SIZE, d->magic);
    u32 step = d->extended > first_step ? d->extended : first_step;
    if (step < 4) step = 4;
    const u32 room = limit - d->extended;
    const u32 here = BLOCKS_A_WORD - d->extended % BLOCKS_A_WORD;
    if (step > here) step = here;
    d->extended += step < room ? step : room;
    d->turn_below = page_turn_limit(d);
    return page_take_word(d, w);
}

void page_give_hand(PageDesc* d, u32 kept) {
    u64 given = page_hand(d);
    for (; kept != 0; --kept) given &= given - 1;
    if (given == 0) return;
    BlockBits& word = *d->hand_bits;
    // In this order: see take_word.
    set_live_word(word, live_word(word) & ~given);
    std::atomic_signal_fence(std::memory_order_release);
    set_page_hand(d, page_hand(d) & ~given);
    d->until -= bits_in(given);
}

u32 page_collect_remote(PageDesc* d, uptr& bad) {
    const bool flagged = (d->tag.load(std::memory_order_relaxed) & TAG_REMOTE) != 0;
    if (flagged) d->tag.fetch_and(~u32{TAG_REMOTE}, std::memory_order_seq_cst);
    // seq_cst: after the caller cleared remote_queued and after the flag; see page_mark_remote.
    u64 summary = d->remote_summary.load(std::memory_order_relaxed) == 0
                      ? 0
                      : d->remote_summary.exchange(0, std::memory_order_seq_cst);
    u32 collected = 0;
    for (; summary != 0; summary &= summary - 1) {
        const u32 w = lowest_bit(summary);
        BlockBits& word = d->bits[w];
        // Acquire: pairs with the freer's release.
        const u64 freed = word.freed.exchange(0, std::memory_order_acquire);
        const u64 out = live_word(word);
        const u64 live = w == page_hand_word(d) ? out & ~page_hand(d) : out;
        if (const u64 stray = freed & ~live; AEP_UNLIKELY(stray != 0))
            bad = base_of(d) + usize{w * BLOCKS_A_WORD + lowest_bit(stray)} * d->block_size;
        set_live_word(word, out & ~(freed & live));
        collected += bits_in(freed & live);
    }
    d->until -= collected;
    return collected;
}

bool page_is_deserted(const PageDesc* d) {
    // A mark counts only when the summary names its word: then its freer is done with the page. The
    // owner's count of live blocks has one whose free is not complete. Marks only become more, live
    // blocks only fewer. Acquire, all: what was done to the page before is seen.
    u32 marked = 0;
    for (u64 words = d->remote_summary.load(std::memory_order_acquire); words != 0;
         words &= words - 1) {
        const u32 w = lowest_bit(words);
        const BlockBits& word = d->bits[w];
        const u64 freed = word.freed.load(std::memory_order_acquire) & live_word(word);
        marked += bits_in(freed);
    }
    // 0: the owner is about to file the page, in an operation that waits for us.
    const u32 until = read_shared(d->until, std::memory_order_acquire);
    return until != 0 && marked != 0 && until + page_floor(d) == marked;
}

void page_rebuild(PageDesc* d) {
    const u32 words = page_words(d);
    u32 live = 0;
    page_give_hand(d);
    for (u32 w = 0; w < words; ++w) {
        BlockBits& word = d->bits[w];
        if (const u64 freed = word.freed.load(std::memory_order_relaxed); freed != 0) {
            word.freed.store(0, std::memory_order_relaxed);
            set_live_word(word, live_word(word) & ~freed);
        }
        live += bits_in(live_word(word));
    }
    d->remote_summary.store(0, std::memory_order_relaxed);
    d->tag.fetch_and(~u32{TAG_REMOTE}, std::memory_order_relaxed);
    // Whoever took a word to hand may have got no further than its name.
    page_name_word(d, 0);
    d->until = live - page_floor(d);
    d->turn_below = page_turn_limit(d);
}

u32 page_live_blocks(const PageDesc* d) {
    u32 live = 0;
    for (u32 w = 0, words = page_words(d); w < words; ++w) live += bits_in(live_word(d->bits[w]));
    const u32 at_hand = bits_in(page_hand(d));
    return at_hand < live ? live - at_hand : 0;
}

}  // namespace aep
