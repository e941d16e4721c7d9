// Purpose: the page: a run of slices that holds blocks of one size class (its descriptor: page_desc.hpp), and the
//          operations on it that need no lock: take (malloc), clear and regain (free by the owner), mark_remote (free
//          by another thread).
// Who calls it: the fast path (inlined into malloc and free), the heap's slow path, check.
// Crash rule: the alloc bitmap, a bit a block, less the blocks at hand, is all there is: the store
//             that takes a block out of those at hand, or clears its bit, is the commit. Every
//             other field is a cache, and is computed anew after a kill or a fork (page_rebuild).
//
// What two at once on a page may see. The owner's (take, turn, free, collect) are one thread's, or of
// whoever has the heap's turn: they never meet each other.
//
//   take, turn, free | mark      different blocks, for only who was given a block frees it: both happen
//   mark | mark, one block       one is the first, the other is told `already_marked`: a double free
//   mark | mark, one page        both stay; who finds the summary empty, one of them, queues the page
//   mark | collect               collected now, or by the next: a mark counts when the summary names its
//                                word, and a summary that is empty again makes its next marker queue
//   is_live | take, turn, free   of a block that the asker was given: exact. Of another one: as it was
//                                a moment ago, or is a moment later
//   is_live, is_marked | mark    before or after it
//   is_deserted | mark, free     a free that is not complete counts as a live block: no, for now
#pragma once

#include "dsm-core/base/shared_word.hpp"
#include "dsm-core/heap/page_desc.hpp"

namespace aep {

/// The alloc bitmap has one writer, the owner; others look at the bits of blocks they were given. A
/// word is written by one store and read by one load; no order is needed: the bit of a block is set
/// before the block reaches anyone.
inline u64 live_word(const BlockBits& word) {
    return read_shared(word.live, std::memory_order_relaxed);
}
inline void set_live_word(BlockBits& word, u64 bits) {
    std::atomic_ref(word.live).store(bits, std::memory_order_relaxed);
}

/// The word of a page's bitmaps that holds block `index`, for the owner.
inline BlockBits* word_of(const PageDesc* d, usize index) {
    constexpr usize SHIFT = floor_log2(BLOCKS_A_WORD / sizeof(BlockBits));
    return reinterpret_cast<BlockBits*>(reinterpret_cast<uptr>(d->bits) +
                                        (index >> SHIFT & ~(sizeof(BlockBits) - 1)));
}
/// Which word is at hand; owner only.
inline u32 page_hand_word(const PageDesc* d) { return static_cast<u32>(d->hand_bits - d->bits); }

/// The blocks at hand have one writer, too, and others look at them.
inline u64 page_hand(const PageDesc* d) { return read_shared(d->hand, std::memory_order_relaxed); }
inline void set_page_hand(PageDesc* d, u64 blocks) {
    std::atomic_ref(d->hand).store(blocks, std::memory_order_relaxed);
}

/// malloc: takes the lowest of the blocks at hand; false: there is none. Owner only.
inline bool page_take(PageDesc* d, uptr& block) {
    const u64 hand = page_hand(d);
    if (AEP_UNLIKELY(hand == 0)) return false;
    block = d->hand_base + lowest_bit_wide(hand) * d->block_size;
    set_page_hand(d, hand & (hand - 1));  // the commit
    return true;
}

/// page_take that also keeps `touched`; `fresh_zero` says that the block was never used on zero
/// memory.
inline bool page_take_tracked(PageDesc* d, uptr& block, bool& fresh_zero) {
    if (AEP_UNLIKELY(!page_take(d, block))) return false;
    const u32 end = static_cast<u32>(block - base_of(d)) + d->block_size;
    fresh_zero = end > d->touched;
    if (fresh_zero) d->touched = end;
    return true;
}

/// `out`, the bits that are set in one of the page's words, without those of blocks at hand; for the owner. Without a
/// branch: whether the word is the one at hand is nothing that can be predicted.
inline u64 page_without_hand(const PageDesc* d, const BlockBits* word, u64 out) {
    return out ^ value_if_equal(word, d->hand_bits, d->hand);
}

/// Clears the bit of block `index` < MAX_BLOCKS: the commit of a free by the owner. False: it is
/// not live, nothing changed.
inline bool page_clear_bit(PageDesc* d, usize index) {
    BlockBits* word = word_of(d, index);
    u64 out = live_word(*word);
    if (AEP_UNLIKELY(!bit_of(page_without_hand(d, word, out), index))) return false;
    test_and_clear_bit(out, index);
    set_live_word(*word, out);
    return true;
}

/// Counts a free, as the last store of it: whoever finds the page deserted (page_is_deserted) finds
/// the owner done with it. One instruction; as an atomic store it would be three.
inline u32 one_less(u32& count) {
#if defined(__SANITIZE_THREAD__)
    const u32 less = count - 1;
    std::atomic_ref(count).store(less, std::memory_order_release);
    return less;
#else
    // Release: the processor keeps the order of stores, so that only the compiler must.
    std::atomic_signal_fence(std::memory_order_release);
    return --count;
#endif
}

/// Makes the block that page_clear_bit cleared one to be taken. Owner only. True: the page must
/// leave the fast path, to be filed elsewhere.
inline bool page_regain(PageDesc* d) { return one_less(d->until) == 0; }

/// How many blocks of a full page must be free again before malloc takes from it. One would do, but
/// then a program that replaces blocks here and there in a large live set would move a page from
/// list to list for each block.
inline u32 page_slack(const PageDesc* d) { return d->capacity / u32{16} + 1; }

/// What `until` is short of the live blocks and those at hand.
inline u32 page_floor(const PageDesc* d) {
    constexpr u32 NEVER = u32{1} << 30;
    switch (d->standing) {
        case Standing::queued:
            return 0;
        case Standing::alone:
            return 0 - NEVER;
        case Standing::full:
            return d->capacity - page_slack(d);
    }
    __builtin_unreachable();
}
/// Blocks whose bit is set: live ones, remotely freed ones included, and those at hand. Owner only.
inline u32 page_out(const PageDesc* d) { return d->until + page_floor(d); }
/// Live blocks, remotely freed ones included. Owner only.
inline u32 page_live(const PageDesc* d) { return page_out(d) - bits_in(page_hand(d)); }
/// Owner only: are all blocks of the page free, with no remote mark on the way?
inline bool page_all_free(const PageDesc* d) { return page_live(d) == 0; }
/// Whether the page has so many free blocks that it must be filed elsewhere.
inline bool page_must_move(const PageDesc* d) { return d->until - 1 >= u32{1} << 31; }
/// What `turn_below` must be. It follows from `extended` and the standing; the conditions are that the page is neither
/// tight nor spent (below).
inline u32 page_turn_limit(const PageDesc* d) {
    u32 least = d->extended / (8 * BLOCKS_A_WORD) + 1;  // free blocks
    if (d->extended != d->capacity && least * 2 <= d->extended) least = (d->extended + 1) / 2;
    return d->extended + 1 - least - page_floor(d);
}
inline void page_set_standing(PageDesc* d, Standing standing) {
    const u32 out = page_out(d);
    d->standing = standing;
    d->until = out - page_floor(d);
    d->turn_below = page_turn_limit(d);
}

/// The word of a page's bitmaps that holds block `index`, found without line 0, which its owner
/// writes all the time.
inline BlockBits& shared_bits(const PageDesc* d, u32 index) {
    return block_bits_of(slice_of(d))[index / BLOCKS_A_WORD];
}

/// Extended blocks that are neither live nor at hand. Owner only.
inline u32 page_free(const PageDesc* d) { return d->extended - page_out(d); }

/// Whether a page without blocks at hand has so few free ones that it is better extended: a word
/// would be used up after a few blocks, and taking the next costs as much as several.
inline bool page_is_tight(const PageDesc* d) {
    return page_free(d) * u32{2} < d->extended && d->extended != d->capacity;
}

/// Whether a page has so few free blocks that they are not worth looking for: each would cost a
/// look at eight words and more. So is one that has none.
inline bool page_is_spent(const PageDesc* d) {
    return page_free(d) * (8 * BLOCKS_A_WORD) <= d->extended;
}

/// Which blocks of word `w` are extended.
inline u64 page_extended_mask(const PageDesc* d, u32 w) {
    const u32 before = w * BLOCKS_A_WORD;
    if (d->extended <= before) return 0;
    const u32 count = d->extended - before;
    return count >= BLOCKS_A_WORD ? ~u64{0} : mask_of(0, count);
}

/// Names the word whose blocks are at hand, where none is. Others see that it is another turn.
inline void page_name_word(PageDesc* d, u32 w) {
    const u32 turn = d->hand_turn.load(std::memory_order_relaxed);
    d->hand_turn.store((turn / MAX_WORDS + 1) * MAX_WORDS + w, std::memory_order_relaxed);
    d->hand_bits = d->bits + w;
    d->hand_base = base_of(d) + usize{w} * BLOCKS_A_WORD * d->block_size;
}

/// Takes the free extended blocks of a word to hand, where none is; false: it has none.
[[gnu::always_inline]] inline bool page_take_word(PageDesc* d, u32 w) {
    BlockBits& word = d->bits[w];
    const u64 live = live_word(word);
    const u64 free = page_extended_mask(d, w) & ~live;
    if (AEP_UNLIKELY(free == 0)) return false;
    // In this order: whoever finds it half done finds the blocks free, or at hand, or both, which
    // is the same. Release: page_is_at_hand.
    page_name_word(d, w);
    std::atomic_ref(d->hand).store(free, std::memory_order_release);
    std::atomic_signal_fence(std::memory_order_release);
    set_live_word(word, live | free);
    d->until += bits_in(free);
    return true;
}

/// Takes the next word in turn to hand, where none is, if that is all there is to do; false: it has
/// no free block, or the page is better extended or left. Owner only.
[[gnu::always_inline]] inline bool page_turn(PageDesc* d) {
    if (AEP_UNLIKELY(d->until >= d->turn_below)) return false;
    const u32 next = page_hand_word(d) + 1;
    return page_take_word(d, next * BLOCKS_A_WORD < d->extended ? next : 0);
}

/// page_take_tracked for classes above MAX_DIRECT: of a page without blocks at hand the lowest free one, so that no
/// word need be taken to hand for the block or two that a page of few blocks has. Such a page has one word. Owner only.
[[gnu::always_inline]] inline bool page_take_lowest(PageDesc* d, uptr& block, bool& fresh_zero) {
    if (page_hand(d) != 0) return page_take_tracked(d, block, fresh_zero);
    if (AEP_UNLIKELY(d->extended == 0)) return false;  // an empty queue's page has no bitmap
    BlockBits& word = *d->bits;
    const u64 live = live_word(word);
    const u64 free = mask_of(0, d->extended) & ~live;
    if (AEP_UNLIKELY(free == 0)) return false;
    const u32 size = d->block_size;
    const u32 offset = lowest_bit(free) * size;
    set_live_word(word, live | (free & (0 - free)));  // the commit
    ++d->until;
    block = base_of(d) + offset;
    fresh_zero = offset + size > d->touched;
    if (fresh_zero) d->touched = offset + size;
    return true;
}
static_assert([] {
    for (u32 c = LAST_DIRECT_CLASS + 1; c < CLASS_COUNT; ++c)
        if ((usize{page_slices(c)} << SLICE_SHIFT) / class_size(c) > BLOCKS_A_WORD) return false;
    return true;
}());

/// Whether the page has blocks that would be extended to, if more of it were committed, and no others.
inline bool page_awaits_memory(const PageDesc* d) {
    return d->extended < d->capacity &&
           blocks_in(static_cast<u32>(d->committed), d->magic) <= d->extended;
}

enum class RemoteMark { marked, first_of_page, already_marked };

/// free by a thread that does not own the page: marks the block for its owner. `first_of_page`: the
/// caller must queue the page to its owner. Cost: one atomic, two for the first of 64 blocks.
inline RemoteMark page_mark_remote(PageDesc* d, u32 index) {
    BlockBits& word = shared_bits(d, index);
    const u64 mask = u64{1} << (index % BLOCKS_A_WORD);
    // Release: the freer's last uses of the block come before the owner's reuse (acquire in
    // collect).
    const u64 old = word.freed.fetch_or(mask, std::memory_order_acq_rel);
    if (AEP_UNLIKELY((old & mask) != 0)) return RemoteMark::already_marked;
    if (AEP_LIKELY(old != 0)) return RemoteMark::marked;
    // A bit a word: a mark must not be collected before its freer is done with the page, and the
    // freer that finds others in its word is. seq_cst: pairs with the collector, which clears the
    // queue flag before it takes the summary.
    const u64 summary =
        d->remote_summary.fetch_or(u64{1} << (index / BLOCKS_A_WORD), std::memory_order_seq_cst);
    if (summary != 0) return RemoteMark::marked;
    // After the summary: page_collect_remote takes them in the other order, so that the flag may
    // outlive its reason, but not the other way round.
    d->tag.fetch_or(TAG_REMOTE, std::memory_order_seq_cst);
    return RemoteMark::first_of_page;
}

/// Whether the block is at hand, which its set bit does not tell; for any thread. Line 0 is looked
/// at only if its word is.
inline bool page_is_at_hand(const PageDesc* d, u32 index) {
    const u32 turn = d->hand_turn.load(std::memory_order_acquire);
    if (turn % MAX_WORDS != index / BLOCKS_A_WORD) return false;
    // Acquire: blocks of a later turn come with that turn, and then are another word's.
    const u64 hand = read_shared(d->hand, std::memory_order_acquire);
    return bit_of(hand, index) && d->hand_turn.load(std::memory_order_relaxed) == turn;
}

/// Whether the block is live; for any thread that was given it.
inline bool page_is_live(const PageDesc* d, u32 index) {
    return index < MAX_BLOCKS && bit_of(live_word(shared_bits(d, index)), index) &&
           !page_is_at_hand(d, index);
}

/// Whether another thread has freed the block and the owner has not yet taken it in.
inline bool page_is_marked(const PageDesc* d, u32 index) {
    return index < MAX_BLOCKS &&
           bit_of(shared_bits(d, index).freed.load(std::memory_order_relaxed), index);
}

/// Makes the run of `d->slices` slices at `s` a page of class `size_class` owned by heap `owner`,
/// with nothing extended. Writes the descriptor alone. `zero`: the run reads as zero; `committed`:
/// bytes of it that can be written. The bitmaps of the run must be clear (they always are while
/// free).
void page_init(PageDesc* d, u32 size_class, u32 owner, bool zero, usize committed);

/// Takes all free blocks of the next word that has any to hand, if none is at hand; in turn, so
/// that each has gathered as many as can be when its turn comes. False: no extended block is free,
/// or so few are that the page is spent, but for a `thorough` caller. Owner only.
bool page_seek(PageDesc* d, bool thorough = false);

/// Extends a page without blocks at hand by some that are untouched, within the word that follows
/// and what can be written, and takes them to hand. False: none can be written, or there are no
/// more.
bool page_extend(PageDesc* d);

/// Takes over the blocks that other threads freed; returns how many. `bad` becomes the address of a
/// block that was marked but not live (a double free by another thread; the mark is dropped), else
/// it is left alone.
u32 page_collect_remote(PageDesc* d, uptr& bad);

/// For a thread that is not the owner, about a page that the owner takes no blocks from and that is
/// queued to it: whether every block is free, by the owner or by marks (one at least), and no free
/// by the owner is under way.
bool page_is_deserted(const PageDesc* d);

/// The blocks at hand become free ones again, but for the lowest `kept` of them. Owner only.
void page_give_hand(PageDesc* d, u32 kept = 0);

/// Computes the caches anew from the alloc bitmap after the owner died or was left behind by fork.
/// Remote marks are collected, too. The page must be quiescent.
void page_rebuild(PageDesc* d);

/// Number of live blocks by the bitmap, remotely freed ones included. Racy while the owner runs.
u32 page_live_blocks(const PageDesc* d);

/// Words of its bitmaps that a page uses.
inline u32 page_words(const PageDesc* d) {
    return (d->capacity + BLOCKS_A_WORD - 1) / BLOCKS_A_WORD;
}

}  // namespace aep
