// Purpose: the page: a run of slices that holds blocks of one size class, its descriptor, and the
// three operations
//          on it that need no lock: pop (malloc), push (free by the owner), remote_mark (free by
//          another thread).
// Who calls it: the fast path (inlined into malloc and free), the heap's slow path, check.
// Crash rule: the alloc bitmap is the truth, the free stack a cache of it. The store that sets or
// clears a
//             block's bit is the commit point; a stack torn by a kill is rebuilt from the bitmap.
//
// Descriptors lie apart from the objects. Line 0 is written by the owner at every malloc and free;
// line 1 is read by everyone and written rarely, so that a remote free does not wait for the
// owner's line.
#pragma once

#include <atomic>

#include "dsm-core/heap/size_class.hpp"

namespace aep {

/// A tag: owner heap id << 7 | shared flag | remote flag | kind. Kinds below TAG_SMALL_LIMIT are a
/// small page's bit shift.
enum : u32 {
    TAG_FREE = 0,  // not in use (also: metadata never written)
    TAG_SMALL_LIMIT =
        16,             // 4..14: head (and only slice) of a small page, the value is the bit shift
    TAG_MEDIUM = 16,    // first slice of a medium page
    TAG_TAIL = 17,      // further slice of a medium page
    TAG_LARGE = 18,     // first slice of a large object (its further slices say TAG_FREE)
    TAG_RESERVED = 19,  // first slice of a run that is taken but not yet a page or object
    TAG_KIND_MASK = 31,
    // Other threads have freed blocks of the page: the owner's frees leave the fast path, to see
    // whether theirs is one of these.
    TAG_REMOTE = 32,
    // Objects in it were sent to other processes: frees leave the fast path, to see whether
    // theirs is one of these. Stays until the page or object goes.
    TAG_SHARED = 64,
};
inline constexpr unsigned TAG_OWNER_SHIFT = 7;

constexpr u32 kind_of(u32 tag) { return tag & TAG_KIND_MASK; }
constexpr bool is_page_kind(u32 kind) { return kind != TAG_FREE && kind <= TAG_MEDIUM; }

/// 64 bits of a page's two bitmaps side by side: whoever frees a block needs both, and a free by
/// another thread moves one cache line between processors, not two.
struct BlockBits {
    u64 live;                // set at the start of a live block; the owner alone writes it
    std::atomic<u64> freed;  // set by other threads that free a block
};

struct alignas(128) PageDesc {
    // Line 0: the owner's.
    u32 free_count;   // entries on the free stack, the cached one included
    u32 free_limit;   // free() leaves the fast path when free_count >= free_limit: the page becomes
                      // empty, or it is on the full list (0)
    u32 top;          // the top of the free stack: block offset >> entry_shift
    u32 extended;     // blocks that were ever put on the stack (the rest of the page is untouched)
    u16* stack;       // entries 1 .. free_count-1 lie below the top; entry 0 is a dummy
    BlockBits* bits;  // one bit of each bitmap a granule
    uptr base;        // address of the page, or of the large object
    u32 capacity;     // blocks the page can hold
    u32 block_size;   // bytes (class size); 0 for a large object
    u32 touched;  // bytes from base that may be non-zero; kept for classes above MAX_DIRECT only
    u8 size_class;
    u8 in_full_list;  // 1: on the heap's list of pages without free blocks
    u8 entry_shift;   // 0 small pages, 4 medium pages
    u8 bit_shift;     // log2 of the bitmap's granule
    u32 slices;       // slices of a page or of a large object
    u32 head_delta;   // TAG_TAIL: how many slices before this one the page begins

    // Line 1: read by all, written rarely.
    std::atomic<u32> tag;             // see TAG_FREE; written last when a page is born
    std::atomic<u32> remote_queued;   // 1: on some heap's list of pages with remote frees
    std::atomic<u64> remote_summary;  // bit w: word w of the freed bits may be non-zero
    PageDesc* remote_next;
    PageDesc* next;  // in the class queue or the full list
    PageDesc* prev;
    // Bytes from base that can be written; of a large object whole slices. Of a free slice that is
    // not committed as a whole: how much of it can be all the same, because a page lay there that
    // was never extended further.
    usize committed;
};
static_assert(sizeof(PageDesc) == 128 && DESCS.stride == sizeof(PageDesc));

/// The descriptor of the slice that holds `address`, in the window. The constants cancel out.
inline PageDesc* desc_at(uptr address) {
    return reinterpret_cast<PageDesc*>(DESCS.base - (HEAP_BASE >> SLICE_SHIFT) * sizeof(PageDesc) +
                                       (address >> SLICE_SHIFT) * sizeof(PageDesc));
}
inline PageDesc* desc_of(SliceIndex s) {
    return reinterpret_cast<PageDesc*>(DESCS.base + usize{raw(s)} * sizeof(PageDesc));
}
inline SliceIndex slice_of(const PageDesc* d) {
    return SliceIndex{
        static_cast<u32>((reinterpret_cast<uptr>(d) - DESCS.base) / sizeof(PageDesc))};
}

/// The bitmaps of the page that begins at slice `s`.
inline BlockBits* block_bits_of(SliceIndex s) {
    return reinterpret_cast<BlockBits*>(BLOCK_BITS.base + usize{raw(s)} * BLOCK_BITS.stride);
}

/// The bitmap index of a block at `offset` bytes from the page's base, or a value >= 4096 when the
/// offset is no multiple of the granule: the rotation brings stray low bits to the top, so that one
/// compare finds both.
inline u32 bit_index(u32 offset, u32 bit_shift) {
    return (offset >> bit_shift) | (offset << ((32 - bit_shift) & 31));
}
inline constexpr u32 MAX_BITS = SLICE_SIZE / MIN_ALIGNMENT;

/// The alloc bitmap has one writer, the owner; others look at the bits of blocks they were given. A
/// word is written by one store and read by one load; no order is needed: the bit of a block is set
/// before the block reaches anyone.
inline u64 alloc_word(const PageDesc* d, u32 w) {
    return __atomic_load_n(&d->bits[w].live, __ATOMIC_RELAXED);
}
inline void set_alloc_word(PageDesc* d, u32 w, u64 bits) {
    __atomic_store_n(&d->bits[w].live, bits, __ATOMIC_RELAXED);
}
/// Sets a block's bit: the commit of a malloc.
inline void page_set_bit(PageDesc* d, u32 bit) {
    set_alloc_word(d, bit / 64, with_bit_set(alloc_word(d, bit / 64), bit));
}

/// malloc: takes the top block of a page with free_count > 0 and commits it. Owner only.
inline uptr page_pop(PageDesc* d, u32 free_count) {
    const u32 entry = d->top;
    d->free_count = free_count - 1;
    d->top = d->stack[free_count - 1];
    const u32 offset = entry << d->entry_shift;
    page_set_bit(d, offset >> d->bit_shift);
    return d->base + offset;
}

/// page_pop for small pages, whose entries are byte offsets.
inline uptr page_pop_small(PageDesc* d, u32 free_count) {
    const u32 entry = d->top;
    d->free_count = free_count - 1;
    d->top = d->stack[free_count - 1];
    page_set_bit(d, entry >> d->bit_shift);
    return d->base + entry;
}

/// page_pop that also keeps `touched`; `fresh_zero` says that the block was never used on zero
/// memory.
inline uptr page_pop_tracked(PageDesc* d, u32 free_count, bool& fresh_zero) {
    const uptr block = page_pop(d, free_count);
    const u32 end = static_cast<u32>(block - d->base) + d->block_size;
    fresh_zero = end > d->touched;
    if (fresh_zero) d->touched = end;
    return block;
}

/// Clears the block's bit: the commit of a free by the owner. False: no live block begins there,
/// nothing changed.
inline bool page_clear_bit(PageDesc* d, u32 bit) {
    if (AEP_UNLIKELY(bit >= MAX_BITS)) return false;
    u64 word = alloc_word(d, bit / 64);
    if (AEP_UNLIKELY(!test_and_clear_bit(word, bit))) return false;
    set_alloc_word(d, bit / 64, word);
    return true;
}

/// Puts a block (entry = offset >> entry_shift) on the free stack. Owner only, after
/// page_clear_bit.
inline void page_push(PageDesc* d, u32 entry) {
    const u32 n = d->free_count;
    d->stack[n] = static_cast<u16>(d->top);  // n == 0 writes the dummy
    d->top = entry;
    d->free_count = n + 1;
}

/// The word of a page's bitmaps that holds `bit`, found without line 0, which its owner writes all
/// the time.
inline BlockBits& shared_bits(const PageDesc* d, u32 bit) {
    return block_bits_of(slice_of(d))[bit / 64];
}

enum class RemoteMark { marked, first_of_page, already_marked };

/// free by a thread that does not own the page: marks the block for its owner. `first_of_page`: the
/// caller must queue the page to its owner. Cost: one atomic, two for the first of 64 blocks.
inline RemoteMark page_mark_remote(PageDesc* d, u32 bit) {
    BlockBits& word = shared_bits(d, bit);
    const u64 mask = u64{1} << (bit % 64);
    // Release: the freer's last uses of the block come before the owner's reuse (acquire in
    // collect).
    const u64 old = word.freed.fetch_or(mask, std::memory_order_acq_rel);
    if (AEP_UNLIKELY((old & mask) != 0)) return RemoteMark::already_marked;
    if (AEP_LIKELY(old != 0)) return RemoteMark::marked;
    // seq_cst: pairs with the collector, which clears the queue flag before it takes the summary.
    const u64 summary = d->remote_summary.fetch_or(u64{1} << (bit / 64), std::memory_order_seq_cst);
    if (summary != 0) return RemoteMark::marked;
    // After the summary: page_collect_remote takes them in the other order, so that the flag may
    // outlive its reason, but not the other way round.
    d->tag.fetch_or(TAG_REMOTE, std::memory_order_seq_cst);
    return RemoteMark::first_of_page;
}

/// Whether a live block begins at the bit; for any thread that was given the block.
inline bool page_is_live(const PageDesc* d, u32 bit) {
    return bit < MAX_BITS &&
           (__atomic_load_n(&shared_bits(d, bit).live, __ATOMIC_RELAXED) >> (bit % 64) & 1) != 0;
}

/// Whether another thread has freed the block and the owner has not yet taken it in.
inline bool page_is_marked(const PageDesc* d, u32 bit) {
    return bit < MAX_BITS &&
           (shared_bits(d, bit).freed.load(std::memory_order_relaxed) >> (bit % 64) & 1) != 0;
}

/// Makes the run of `d->slices` slices at `s` a page of class `size_class` owned by heap `owner`,
/// with an empty stack and nothing extended. `zero`: the run reads as zero; `committed`: bytes of
/// it that can be written. The bitmaps of the run must be clear (they always are while free).
void page_init(PageDesc* d, u32 size_class, u32 owner, bool zero, usize committed);

/// Puts further untouched blocks on the (empty) free stack, in address order: some at first, then
/// all that can be written; none when no more are.
void page_extend(PageDesc* d);

/// Takes over the blocks that other threads freed; returns how many. `bad` becomes the address of a
/// block that was marked but not live (a double free by another thread; the mark is dropped), else
/// it is left alone.
u32 page_collect_remote(PageDesc* d, uptr& bad);

/// Rebuilds the free stack from the alloc bitmap after its owner died or was left behind by fork.
/// Remote marks are collected, too. The page must be quiescent.
void page_rebuild(PageDesc* d);

/// Number of live blocks by the bitmap, remotely freed ones included. Racy while the owner runs.
u32 page_live_blocks(const PageDesc* d);

}  // namespace aep
