// Purpose: birth, growth, collection and repair of pages.
// Who calls it: the heap's slow path; page_rebuild also recovery and the fork child.
// Crash rule: see page.hpp: bits first, stack second; page_init publishes the tag last.
#include "dsm-core/heap/page.hpp"

namespace aep {

namespace {

u16* stack_home(SliceIndex s, u32 capacity) {
    const MetaArray& home = capacity <= 256 ? STACKS_512 : capacity <= 1024 ? STACKS_2K : STACKS_8K;
    return reinterpret_cast<u16*>(home.base + home.stride * raw(s));
}

u32 bit_words(const PageDesc* d) {
    const usize bits = (usize{d->slices} << SLICE_SHIFT) >> d->bit_shift;
    return static_cast<u32>((bits + 63) / 64);
}

}  // namespace

void page_init(PageDesc* d, u32 size_class, u32 owner, bool zero, usize committed) {
    const SliceIndex s = slice_of(d);
    const usize size = class_size(size_class);
    const u32 slices = page_slices(size_class);
    const bool small = slices == 1;
    const usize bytes = usize{slices} << SLICE_SHIFT;
    d->free_count = 0;
    d->free_limit = 0;
    d->top = 0;
    d->entry_shift = small ? 0 : 4;
    d->bit_shift = bit_shift_of(size);
    d->extended = 0;
    d->capacity = static_cast<u32>(bytes / size);
    d->stack = stack_home(s, d->capacity);
    d->bits = block_bits_of(s);
    d->base = slice_address(s);
    d->block_size = static_cast<u32>(size);
    d->touched = zero ? 0 : static_cast<u32>(bytes);
    d->size_class = static_cast<u8>(size_class);
    d->in_full_list = 0;
    d->slices = slices;
    d->head_delta = 0;
    d->committed = committed;
    d->next = d->prev = nullptr;
    for (u32 i = 1; i < slices; ++i) {
        d[i].head_delta = i;
        d[i].tag.store(owner << TAG_OWNER_SHIFT | TAG_TAIL, std::memory_order_relaxed);
    }
    // Release: whoever reads the tag sees the fields above.
    d->tag.store(owner << TAG_OWNER_SHIFT | (small ? d->bit_shift : u32{TAG_MEDIUM}),
                 std::memory_order_release);
}

void page_extend(PageDesc* d) {
    const u32 first_step = static_cast<u32>(OS_PAGE_SIZE / d->block_size);
    const u32 writable = static_cast<u32>(d->committed) / d->block_size;
    const u32 room = (writable < d->capacity ? writable : d->capacity) - d->extended;
    if (AEP_UNLIKELY(room == 0)) return;
    const u32 count = d->extended == 0 && first_step < room
                          ? (first_step < 4 ? (room < 4 ? room : 4) : first_step)
                          : room;
    const u32 step = d->block_size >> d->entry_shift;
    u32 entry = (d->extended + count) * step;
    // Entry 0 is the dummy; the last one lives in `top`, so that blocks leave in address order.
    for (u32 i = 1; i < count; ++i) {
        entry -= step;
        d->stack[i] = static_cast<u16>(entry);
    }
    d->top = entry - step;
    d->free_count = count;
    d->extended += count;
}

u32 page_collect_remote(PageDesc* d, uptr& bad) {
    const bool flagged = (d->tag.load(std::memory_order_relaxed) & TAG_REMOTE) != 0;
    if (flagged) d->tag.fetch_and(~u32{TAG_REMOTE}, std::memory_order_seq_cst);
    // seq_cst: after the caller cleared remote_queued and after the flag; see page_mark_remote.
    u64 summary = d->remote_summary.load(std::memory_order_relaxed) == 0
                      ? 0
                      : d->remote_summary.exchange(0, std::memory_order_seq_cst);
    u32 collected = 0;
    while (summary != 0) {
        const u32 w = lowest_bit(summary);
        summary &= summary - 1;
        // Acquire: pairs with the freer's release.
        u64 word = d->bits[w].freed.exchange(0, std::memory_order_acquire);
        const u64 live = alloc_word(d, w);
        const u64 stray = word & ~live;
        if (AEP_UNLIKELY(stray != 0)) {
            bad = d->base + (uptr{w * 64 + lowest_bit(stray)} << d->bit_shift);
            word &= ~stray;
        }
        set_alloc_word(d, w, live & ~word);
        while (word != 0) {
            const u32 bit = w * 64 + lowest_bit(word);
            word &= word - 1;
            page_push(d, (bit << d->bit_shift) >> d->entry_shift);
            ++collected;
        }
    }
    return collected;
}

void page_rebuild(PageDesc* d) {
    const u32 words = bit_words(d);
    for (u32 w = 0; w < words; ++w) {
        const u64 word = d->bits[w].freed.load(std::memory_order_relaxed);
        if (word == 0) continue;
        d->bits[w].freed.store(0, std::memory_order_relaxed);
        set_alloc_word(d, w, alloc_word(d, w) & ~word);
    }
    d->remote_summary.store(0, std::memory_order_relaxed);
    d->tag.fetch_and(~u32{TAG_REMOTE}, std::memory_order_relaxed);
    d->free_count = 0;
    d->top = 0;
    for (u32 i = d->extended; i-- > 0;) {
        const u32 offset = i * d->block_size;
        if (!page_is_live(d, offset >> d->bit_shift)) page_push(d, offset >> d->entry_shift);
    }
}

u32 page_live_blocks(const PageDesc* d) {
    u32 live = 0;
    for (u32 w = 0, words = bit_words(d); w < words; ++w) {
        live += static_cast<u32>(__builtin_popcountll(alloc_word(d, w)));
    }
    return live;
}

}  // namespace aep
