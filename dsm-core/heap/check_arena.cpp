// Purpose: the invariants of chunks, slices and runs; see check.hpp.
// Who calls it: check.cpp.
// Crash rule: reads only.
#include "dsm-core/heap/check_state.hpp"

namespace aep {

bool HeapCheck::chunk_masks(ChunkIndex c) {
    const ChunkDesc* d = chunk_desc(c);
    const uptr at = chunk_address(c);
    const Arena& arena = dom_.arena;
    if (!dom_.arena.holds(d)) {
        // In a context others' chunks lie between ours, and change.
        if (index_of(dom_) != 0) return true;
        return require(d->free == 0, "a chunk that is not held has free slices", "chunk", at) &&
               require(d->dirty == 0, "a chunk that is not held has dirty slices", "chunk", at) &&
               require(d->rank == 0, "a chunk that is not held has a rank", "chunk", at, d->rank);
    }
    if (!require(raw(c) < arena.chunk_limit() && raw(c) >= arena.chunk_first(),
                 "a held chunk lies beyond the limits", "chunk", at) ||
        !require((d->zero & ~d->free) == 0, "zero slices are not free", "chunk", at, d->zero,
                 d->free) ||
        !require((d->dirty & ~d->free) == 0, "dirty slices are not free", "chunk", at, d->dirty,
                 d->free) ||
        !require((d->dirty & d->zero) == 0, "slices are dirty and zero", "chunk", at, d->dirty,
                 d->zero) ||
        !require(d->rank == run_rank(d->free), "the rank is not that of the free mask", "chunk", at,
                 d->rank, run_rank(d->free)) ||
        !require(d->dirty == 0 || d->on_dirty_list, "a dirty chunk is not on the dirty list",
                 "chunk", at))
        return false;
    for (u32 r = 0; r < Arena::RANKS; ++r) {
        const bool in_bin = arena.by_rank_.contains(r, raw(c));
        if (!require(in_bin == (d->rank == r + 1), "the chunk is in the wrong bin", "chunk", at, r,
                     d->rank))
            return false;
    }
    for (u64 free = d->free; free != 0; free &= free - 1) {
        const SliceIndex s{raw(first_slice(c)) + lowest_bit(free)};
        const u32 kind = kind_of(tag_of(desc_of(s)));
        const bool whole = (d->committed >> (raw(s) % SLICES_PER_CHUNK) & 1) != 0;
        if (!require(kind == TAG_FREE, "a free slice has a tag", "slice", slice_address(s), kind,
                     TAG_FREE) ||
            !require(whole || desc_of(s)->committed < SLICE_SIZE,
                     "an uncommitted slice is committed", "slice", slice_address(s),
                     desc_of(s)->committed))
            return false;
    }
    return true;
}

bool HeapCheck::chunk_masks_locked(SliceIndex first, u32 slices) {
    LockScope scope(const_cast<Domain&>(dom_).arena.lock());
    const u32 last = raw(first) + (slices == 0 ? 0 : slices - 1);
    for (u32 c = raw(chunk_of(first)); c <= last / SLICES_PER_CHUNK; ++c)
        if (!chunk_masks(ChunkIndex{c})) return false;
    return true;
}

bool HeapCheck::clean_bitmaps(SliceIndex s, const char* kind) {
    const BlockBits* bits = block_bits_of(s);
    u64 allocated = 0, marked = 0;
    for (u32 w = 0; w < MAX_WORDS; ++w) {
        allocated |= bits[w].live;
        marked |= bits[w].freed.load(std::memory_order_relaxed);
    }
    return require(allocated == 0, "alloc bits where no page begins", kind, slice_address(s),
                   allocated) &&
           require(marked == 0, "remote marks where no page begins", kind, slice_address(s),
                   marked);
}

/// A run begins at `first`: what it is, how long, and that it fits the arena's masks.
bool HeapCheck::run_at(SliceIndex first) {
    const PageDesc* d = desc_of(first);
    const uptr at = slice_address(first);
    const u32 kind = kind_of(tag_of(d));
    const u32 owner = tag_of(d) >> TAG_OWNER_SHIFT;
    const bool is_page = kind == TAG_PAGE;
    if (!require(is_page || kind == TAG_LARGE || kind == TAG_RESERVED,
                 "a run begins with a tag that is none", "slice", at, kind) ||
        !require(d->slices != 0, "a run of no slices", "run", at) ||
        !require(d->slices <= dom_.arena.chunk_limit() * SLICES_PER_CHUNK - raw(first),
                 "a run reaches beyond the last chunk", "run", at, d->slices))
        return false;
    run_end_ = raw(first) + d->slices;
    run_kind_ = kind;
    if (is_page) {
        ++report_.pages;
        return require(owner / HEAP_IDS == index_of(dom_) && owner % HEAP_IDS >= 1 &&
                           owner % HEAP_IDS <= dom_.heaps_used,
                       "a page of a heap that is none", "page", at, owner, dom_.heaps_used) &&
               page(d, true) && (moment_ != CheckMoment::idle || remote_marks(d));
    }
    if (!clean_bitmaps(first, "run")) return false;
    if (kind == TAG_RESERVED) {
        ++report_.reserved_runs;
        return true;
    }
    ++report_.large_objects;
    large_bytes_ += usize{d->slices} << SLICE_SHIFT;
    return require(owner == 0, "a large object has an owner", "object", at, owner) &&
           require(d->committed % SLICE_SIZE == 0 && d->committed != 0 &&
                       d->committed <= usize{d->slices} << SLICE_SHIFT,
                   "a large object's committed part is none of it", "object", at, d->committed) &&
           require(d->block_size == 0, "a large object has a block size", "object", at,
                   d->block_size);
}

bool HeapCheck::slices_of_chunk(ChunkIndex c) {
    const ChunkDesc* chunk = chunk_desc(c);
    for (u32 i = 0; i < SLICES_PER_CHUNK; ++i) {
        const SliceIndex s{raw(first_slice(c)) + i};
        const PageDesc* d = desc_of(s);
        const bool free = (chunk->free >> i & 1) != 0;
        const u32 kind = kind_of(tag_of(d));
        if (d->remote_queued.load(std::memory_order_relaxed) != 0) ++queued_pages_;
        if (raw(s) < run_end_) {  // a further slice of a run
            const u32 expected = run_kind_ == TAG_PAGE ? TAG_TAIL : TAG_FREE;
            if (!require(!free, "a slice of a run is free", "slice", slice_address(s)) ||
                !require(kind == expected, "a further slice of a run has the wrong tag", "slice",
                         slice_address(s), kind, expected) ||
                !clean_bitmaps(s, "slice"))
                return false;
        } else if (free) {
            if (!clean_bitmaps(s, "free slice")) return false;
        } else if (kind == TAG_FREE) {
            ++report_.withdrawn_slices;
            if (!require(moment_ != CheckMoment::idle, "a slice is neither free nor in a run",
                         "slice", slice_address(s)))
                return false;
        } else if (!run_at(s)) {
            return false;
        }
    }
    return true;
}

bool HeapCheck::chunks() {
    const u32 limit = dom_.arena.chunk_limit();
    if (!require(limit <= MAX_CHUNKS, "the chunk limit is beyond the window", "domain",
                 domain_address(), limit))
        return false;
    u64 dirty_slices = 0;
    for (u32 c = 0; c < limit; ++c) {
        const ChunkDesc* d = chunk_desc(ChunkIndex{c});
        if (!chunk_masks(ChunkIndex{c})) return false;
        if (!dom_.arena.holds(d)) {
            if (!require(run_end_ <= c * SLICES_PER_CHUNK, "a run reaches into a chunk not held",
                         "chunk", chunk_address(ChunkIndex{c})))
                return false;
            continue;
        }
        dirty_chunks_ += d->on_dirty_list;
        dirty_slices += u64{bits_in(d->dirty)};
        binned_ += d->rank != 0;
        ++report_.chunks;
        if (!slices_of_chunk(ChunkIndex{c})) return false;
    }
    return require(report_.chunks == dom_.arena.chunks_held(), "the count of held chunks is wrong",
                   "domain", domain_address(), dom_.arena.chunks_held(), report_.chunks) &&
           require(dirty_slices == dom_.arena.decay_.dirty(), "the count of dirty slices is wrong",
                   "domain", domain_address(), dom_.arena.decay_.dirty(), dirty_slices) &&
           bins() && dirty_list();
}

/// That the bins hold nothing else, and that their words agree level by level: members found by
/// walking are as many as chunks that have a rank.
bool HeapCheck::bins() {
    u64 members = 0;
    const Arena::ChunkSets& bins = dom_.arena.by_rank_;
    for (u32 r = 0; r < Arena::RANKS; ++r)
        for (u32 c = bins.next(r, 0); c != Arena::ChunkSets::NONE; c = bins.next(r, c + 1))
            ++members;
    return require(members == binned_, "the bins hold other chunks than those with a rank",
                   "domain", domain_address(), members, binned_);
}

bool HeapCheck::dirty_list() {
    const Arena& arena = dom_.arena;
    u64 length = 0;
    u32 last = raw(NO_CHUNK);
    for (u32 c = arena.dirty_first_; c != raw(NO_CHUNK);
         c = chunk_desc(ChunkIndex{c})->next_dirty) {
        if (!require(c < arena.chunk_limit(), "the dirty list leaves the window", "domain",
                     domain_address(), c) ||
            !require(chunk_desc(ChunkIndex{c})->on_dirty_list,
                     "a chunk on the dirty list does not know it", "chunk",
                     chunk_address(ChunkIndex{c})) ||
            !require(++length <= dirty_chunks_, "the dirty list holds a chunk twice", "chunk",
                     chunk_address(ChunkIndex{c})))
            return false;
        last = c;
    }
    return require(length == dirty_chunks_, "a chunk thinks that it is on the dirty list", "domain",
                   domain_address(), dirty_chunks_, length) &&
           require(length == 0 || last == arena.dirty_last_, "the dirty list ends elsewhere",
                   "domain", domain_address(), arena.dirty_last_, last) &&
           require(arena.decay_.dirty() == 0 || arena.next_purge() != Decay::NEVER,
                   "dirty chunks that no purge will find due", "domain", domain_address());
}

}  // namespace aep
