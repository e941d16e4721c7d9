// Purpose: the descriptor of a page, a large object or a free slice; where descriptors, bitmaps and blocks lie.
// Who calls it: page.hpp, and whoever goes from an address to what lies there.
// Crash rule: see page.hpp.
//
// Descriptors lie apart from the objects. Line 0 is written by the owner at every malloc and free;
// line 1 is read by everyone and written rarely, so that a remote free does not wait for the
// owner's line.
#pragma once

#include <atomic>

#include "dsm-core/heap/size_class.hpp"

namespace aep {

/// A tag: owner heap id << TAG_OWNER_SHIFT | shared flag | remote flag | kind.
enum : u32 {
    TAG_FREE = 0,      // not in use (also: metadata never written)
    TAG_PAGE = 1,      // first slice of a page
    TAG_TAIL = 2,      // further slice of a page
    TAG_LARGE = 3,     // first slice of a large object (its further slices say TAG_FREE)
    TAG_RESERVED = 4,  // first slice of a run that is taken but not yet a page or object
    TAG_KIND_MASK = 7,
    // Other threads have freed blocks of the page: the owner's frees leave the fast path, to see
    // whether theirs is one of these.
    TAG_REMOTE = 8,
    // Objects in it were sent to other processes, or are samples of the heap profile: frees leave the fast
    // path, to see whether theirs is one of these. Stays until the page or object goes.
    TAG_SHARED = 16,
};
inline constexpr unsigned TAG_OWNER_SHIFT = 5;

constexpr u32 kind_of(u32 tag) { return tag & TAG_KIND_MASK; }
constexpr u32 make_tag(u32 owner, u32 kind) { return owner << TAG_OWNER_SHIFT | kind; }

/// 64 bits of a page's two bitmaps side by side: whoever frees a block needs both, and a free by
/// another thread moves one cache line between processors, not two.
struct BlockBits {
    u64 live;                // set while the block is live; the owner alone writes it
    std::atomic<u64> freed;  // set by other threads that free a block
};
inline constexpr u32 BLOCKS_A_WORD = 64;
inline constexpr u32 MAX_BLOCKS = SLICE_SIZE / MIN_ALIGNMENT;
inline constexpr u32 MAX_WORDS = MAX_BLOCKS / BLOCKS_A_WORD;
static_assert(MAX_WORDS <= 64);  // a bit each in the summaries

/// Where a page stands in its heap, and with it how many live blocks a free must leave behind to
/// leave the fast path.
enum class Standing : u8 {
    queued,  // one of several of its class: at 0 it is given back
    alone,   // the only one: never, it stays although it is empty
    full,    // on the full list: when page_slack blocks are free again
};

struct alignas(128) PageDesc {
    // Line 0: the owner's.
    // The blocks at hand: those of the word `hand_bits` that malloc hands out next. Their bits are set
    // already, 64 blocks by one store.
    u64 hand;
    uptr hand_base;        // address of that word's block 0
    BlockBits* bits;       // word 0
    BlockBits* hand_bits;  // the word at hand
    PageDesc* prev;        // in the class queue or the full list
    u32 block_size;        // bytes (class size); 0 for a large object
    u32 until;  // live blocks and those at hand, less page_floor: at 0 a free leaves the fast path
    u32 extended;  // blocks from the first that may be handed out (the rest is untouched)
    u32 touched;   // bytes from base that may be non-zero; kept for classes above MAX_DIRECT only
    // While `until` is below it, the next word in turn is worth taking: see page_turn.
    u32 turn_below;

    // Line 1: read by all, written rarely.
    alignas(CACHE_LINE) std::atomic<u32> tag;  // see TAG_FREE; written last when a page is born
    std::atomic<u32> remote_queued;            // 1: on some heap's list of pages with remote frees
    u64 magic;                                 // divides by block_size: see block_index
    std::atomic<u64> remote_summary;           // bit w: word w of the freed bits may be non-zero
    PageDesc* remote_next;
    PageDesc* next;  // in the class queue or the full list
    // Bytes from base that can be written; of a large object whole slices. Of a free slice that is
    // not committed as a whole: how much of it can be all the same, because a page lay there that
    // was never extended further.
    usize committed;
    union {
        u32 slices;      // of a page, a large object or a reserved run
        u32 head_delta;  // TAG_TAIL: how many slices before this one the page begins
    };
    u16 capacity;  // blocks the page can hold
    u8 size_class;
    Standing standing;
    // The number of the word at hand, with how often another word came to hand above it: for those who are not the
    // owner.
    std::atomic<u32> hand_turn;
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
/// Address of the page or large object whose first slice has this descriptor.
inline uptr base_of(const PageDesc* d) {
    // As desc_at, the other way round.
    constexpr unsigned SHIFT = SLICE_SHIFT - floor_log2(sizeof(PageDesc));
    return (reinterpret_cast<uptr>(d) << SHIFT) + (HEAP_BASE - (DESCS.base << SHIFT));
}

/// The bitmaps of the page that begins at slice `s`.
inline BlockBits* block_bits_of(SliceIndex s) {
    return reinterpret_cast<BlockBits*>(BLOCK_BITS.base + usize{raw(s)} * BLOCK_BITS.stride);
}

/// Whether a block begins at `offset` bytes (below 2^32) from the base of the page whose `magic`
/// that is, and which. offset * magic is offset / size in its high half, and what it has in its low
/// half is below `magic` just if nothing is left over (Lemire, Kaser, Kurz: "Faster remainder by
/// direct computation"). The index may be that of a block that does not fit into the page any more:
/// nothing live ever begins there.
inline bool find_block(usize offset, const u64& magic, usize& index) {
    u64 rest;
    index = multiply(offset, magic, rest);
    return rest < magic;
}
/// The same as one value; NO_BLOCK: none begins there.
inline constexpr u32 NO_BLOCK = ~u32{0};
inline u32 block_index(u32 offset, u64 magic) {
    usize index = 0;
    return find_block(offset, magic, index) ? static_cast<u32>(index) : NO_BLOCK;
}
/// How many whole blocks `bytes` hold.
inline u32 blocks_in(u32 bytes, u64 magic) {
    u64 rest;
    return static_cast<u32>(multiply(bytes, magic, rest));
}

}  // namespace aep
