// Purpose: runs of slices from chunks; see arena.hpp.
// Who calls it: op/heap_ops.cpp, check.cpp.
// Crash rule: under the lock; reservation tags are written before the lock is released.
#include "dsm-core/heap/arena.hpp"

#include "dsm-core/heap/crash_points.hpp"

namespace aep {

namespace {

/// Calls f(chunk descriptor, chunk, mask) for each chunk that [first, first+slices) touches, while
/// f returns true. Not checked: what f needs is said and checked where it is written.
template <class F>
AEP_NOT_CHECKED bool for_each_part(SliceIndex first, u32 slices, F&& f) {
    u32 position = raw(first) % SLICES_PER_CHUNK;
    u32 chunk = raw(chunk_of(first));
    while (slices != 0) {
        const u32 part =
            slices < SLICES_PER_CHUNK - position ? slices : SLICES_PER_CHUNK - position;
        if (!f(chunk_desc(ChunkIndex{chunk}), ChunkIndex{chunk}, mask_of(position, part)))
            return false;
        slices -= part;
        position = 0;
        ++chunk;
    }
    return true;
}

/// Positions in a chunk that are multiples of `alignment` slices (1..64).
constexpr u64 aligned_positions(u32 alignment) {
    u64 mask = 1;
    for (u32 p = alignment; p < SLICES_PER_CHUNK; p += alignment) mask |= u64{1} << p;
    return mask;
}

}  // namespace

void Arena::init(u32 domain_index) {
    holder_ = static_cast<u16>(domain_index + 1);
    dirty_first_ = dirty_last_ = chunk_first_ = raw(NO_CHUNK);
    decay_.init();
}

void Arena::refile(ChunkIndex c, ChunkDesc* d) {
    const u32 rank = run_rank(d->free);
    if (rank == d->rank) return;
    if (d->rank != 0) by_rank_.erase(d->rank - 1, raw(c));
    if (rank != 0) by_rank_.insert(rank - 1, raw(c));
    d->rank = static_cast<u8>(rank);
}

Run Arena::claim(SliceIndex first, u32 slices, u32 owner) {
    Run run{.first = first, .slices = slices, .zero = true};
    run.coarse = chunk_desc(chunk_of(first))->coarse != 0;
    bool unbroken = true;  // all before can be written
    u32 dirty = 0;
    for_each_part(run.first, slices,
                  [&](ChunkDesc* d, ChunkIndex chunk, u64 mask) AEP_UNDER(lock_) {
                      run.zero = run.zero && (d->zero & mask) == mask;
                      if (const u64 missing = mask & ~d->committed; unbroken) {
                          unbroken = missing == 0;
                          const u64 ready = unbroken ? mask : mask & ((missing & -missing) - 1);
                          run.committed += usize{bits_in(ready)} << SLICE_SHIFT;
                          if (!unbroken) {
                              const u32 broken = raw(first_slice(chunk)) + lowest_bit(missing);
                              run.committed += desc_of(SliceIndex{broken})->committed;
                          }
                      }
                      dirty += bits_in(d->dirty & mask);
                      d->free &= ~mask;
                      d->zero &= ~mask;
                      d->dirty &= ~mask;
                      refile(chunk, d);
                      AEP_HEAP_CRASH_POINT("arena: part of a run claimed");
                      return true;
                  });
    if (dirty != 0) decay_.took(dirty);
    PageDesc* head = desc_of(run.first);
    head->slices = slices;
    head->tag.store(make_tag(owner, TAG_RESERVED), std::memory_order_relaxed);
    AEP_HEAP_CRASH_POINT("arena: run claimed");
    return run;
}

u32 Arena::overhang(u32 chunk, u32 position, u32 slices, u32 alignment) const {
    constexpr u32 LONG_RUN = SLICES_PER_CHUNK / 4;
    if (position != 0 || chunk == 0 || slices < LONG_RUN || alignment != 1) return 0;
    const ChunkDesc* d = chunk_desc(ChunkIndex{chunk - 1});
    const u64 before = holds(d) ? d->free : 0;
    return before == ~u64{0} ? 0 : static_cast<u32>(__builtin_clzll(~before));
}

Run Arena::take_within_chunk(u32 slices, u32 alignment, u32 owner) {
    // Below the guaranteed rank a chunk may or may not fit: look at a few only.
    constexpr u32 MAX_TRIES = 8;
    const u32 guaranteed = ceil_log2(slices);
    const u64 positions = aligned_positions(alignment);
    for (u32 rank = floor_log2(slices); rank < RANKS; ++rank) {
        const bool may_fail = rank < guaranteed;
        u32 tries = 0;
        for (u32 c = by_rank_.next(rank, 0); c != ChunkSets::NONE; c = by_rank_.next(rank, c + 1)) {
            const ChunkDesc* d = chunk_desc(ChunkIndex{c});
            const u64 starts = run_starts(d->free, slices) & positions;
            if (starts != 0) {
                const u64 ready = starts & d->committed;
                const u32 at = lowest_bit(ready != 0 ? ready : starts);
                const u32 first = c * SLICES_PER_CHUNK + at;
                return claim(SliceIndex{first - overhang(c, at, slices, alignment)}, slices, owner);
            }
            if (may_fail && ++tries == MAX_TRIES) break;
        }
    }
    return {};
}

Run Arena::take_across_chunks(u32 from, u32 limit, u32 slices, u32 alignment, u32 owner) {
    // One pass in address order; [begin, end) is the free run that ends where we are.
    u32 begin = 0, end = 0;
    const auto fits = [&] {
        const u32 start = static_cast<u32>(round_up(begin, alignment));
        return start < end && end - start >= slices;
    };
    const auto claim_it = [&]() AEP_UNDER(lock_) {
        return claim(SliceIndex{static_cast<u32>(round_up(begin, alignment))}, slices, owner);
    };
    for (u32 c = from; c < limit; ++c) {
        const u32 first = c * SLICES_PER_CHUNK;
        const ChunkDesc* d = chunk_desc(ChunkIndex{c});
        const u64 free = holds(d) ? d->free : 0;
        if (end != first) begin = end = first;
        if (free == ~u64{0}) {
            end += SLICES_PER_CHUNK;
            if (fits()) return claim_it();
            continue;
        }
        end += lowest_bit(~free);
        if (fits()) return claim_it();
        end = first + SLICES_PER_CHUNK;
        begin = end - static_cast<u32>(__builtin_clzll(~free));
    }
    return {};
}

Run Arena::take(u32 slices, u32 alignment, u32 owner, bool thorough) {
    LockScope scope(lock_);
    const bool within = slices <= SLICES_PER_CHUNK && alignment <= SLICES_PER_CHUNK && !thorough;
    return within ? take_within_chunk(slices, alignment, owner)
                  : take_across_chunks(chunk_first_, chunk_limit(), slices, alignment, owner);
}

Run Arena::take_between(u32 first, u32 end, u32 slices, u32 alignment, u32 owner) {
    LockScope scope(lock_);
    if (end > chunk_limit()) end = chunk_limit();  // no chunk is described behind it
    if (slices > SLICES_PER_CHUNK || alignment > SLICES_PER_CHUNK)
        return take_across_chunks(first, end, slices, alignment, owner);
    const u64 positions = aligned_positions(alignment);
    for (u32 c = first; c < end; ++c) {
        const ChunkDesc* d = chunk_desc(ChunkIndex{c});
        const u64 starts = holds(d) ? run_starts(d->free, slices) & positions : 0;
        if (starts == 0) continue;
        return claim(SliceIndex{c * SLICES_PER_CHUNK + lowest_bit(starts)}, slices, owner);
    }
    return {};
}

namespace {

/// Notes which slices of a run whose first `bytes` can be written are committed, wholly or in part.
void keep_committed(SliceIndex first, u32 slices, usize bytes) {
    for (u32 i = 0; i < slices; ++i) {
        const SliceIndex s{raw(first) + i};
        const usize before = usize{i} << SLICE_SHIFT;
        if (bytes >= before + SLICE_SIZE)
            chunk_desc(chunk_of(s))->committed |= mask_of(raw(s) % SLICES_PER_CHUNK, 1);
        else
            desc_of(s)->committed = bytes > before ? bytes - before : 0;
    }
}

}  // namespace

void Arena::push_dirty(ChunkIndex c, ChunkDesc* d) {
    d->on_dirty_list = 1;
    d->given_again = 0;
    d->next_dirty = raw(NO_CHUNK);
    if (dirty_first_ == raw(NO_CHUNK))
        dirty_first_ = raw(c);
    else
        chunk_desc(ChunkIndex{dirty_last_})->next_dirty = raw(c);
    dirty_last_ = raw(c);
}

/// Null: there is none.
ChunkDesc* Arena::pop_dirty(ChunkIndex& c) {
    if (dirty_first_ == raw(NO_CHUNK)) return nullptr;
    c = ChunkIndex{dirty_first_};
    ChunkDesc* d = chunk_desc(c);
    dirty_first_ = d->next_dirty;
    d->on_dirty_list = 0;
    return d;
}

/// Puts the chunk that was popped last back where it was.
void Arena::return_dirty(ChunkIndex c, ChunkDesc* d) {
    if (dirty_first_ == raw(NO_CHUNK)) dirty_last_ = raw(c);
    d->on_dirty_list = 1;
    d->next_dirty = dirty_first_;
    dirty_first_ = raw(c);
}

void Arena::mark_dirty(ChunkIndex c, ChunkDesc* d, u64 mask, u64 now) {
    decay_.gave(bits_in(mask & ~d->dirty), now);
    d->dirty |= mask;
    if (d->on_dirty_list)
        d->given_again = 1;
    else
        push_dirty(c, d);
}

void Arena::give(SliceIndex first, u32 slices, u64 now, usize committed) {
    LockScope scope(lock_);
    desc_of(first)->tag.store(TAG_FREE, std::memory_order_relaxed);
    AEP_HEAP_CRASH_POINT("arena: tag cleared");
    if (committed != 0) keep_committed(first, slices, committed);
    for_each_part(first, slices, [&](ChunkDesc* d, ChunkIndex c, u64 mask) AEP_UNDER(lock_) {
        d->free |= mask;
        refile(c, d);
        mark_dirty(c, d, mask, now);
        AEP_HEAP_CRASH_POINT("arena: part of a run given");
        return true;
    });
}

void Arena::set_committed(SliceIndex first, u32 slices) {
    LockScope scope(lock_);
    for_each_part(first, slices, [](ChunkDesc* d, ChunkIndex, u64 mask) {
        d->committed |= mask;
        return true;
    });
}

void Arena::set_bitmaps(ChunkIndex c, u64 slices) {
    LockScope scope(lock_);
    ChunkDesc* d = chunk_desc(c);
    // relaxed: who looks without the lock has made those present himself that he asks about.
    std::atomic_ref(d->bitmaps).store(d->bitmaps | slices, std::memory_order_relaxed);
}

GrowResult Arena::grow(SliceIndex first, u32 old_slices, u32 new_slices, Run& added) {
    LockScope scope(lock_);
    const u32 begin = raw(first) + old_slices;
    const u32 count = new_slices - old_slices;
    const u32 limit = chunk_limit() * SLICES_PER_CHUNK;
    const u32 within = begin >= limit ? 0 : (count < limit - begin ? count : limit - begin);
    const bool free = within == 0 || for_each_part(SliceIndex{begin}, within,
                                                   [this](ChunkDesc* d, ChunkIndex, u64 mask) {
                                                       return holds(d) && (d->free & mask) == mask;
                                                   });
    if (!free) return GrowResult::blocked;
    if (within < count) return GrowResult::beyond_last_chunk;
    added = claim(SliceIndex{begin}, count, 0);
    desc_of(added.first)
        ->tag.store(TAG_FREE, std::memory_order_relaxed);  // belongs to the run before it
    desc_of(first)->slices = new_slices;
    AEP_HEAP_CRASH_POINT("arena: object grown");
    return GrowResult::grown;
}

void Arena::add(ChunkIndex first, u32 count, const Added& what, u64 now) {
    LockScope scope(lock_);
    for (u32 c = raw(first); c < raw(first) + count; ++c) {
        ChunkDesc* d = chunk_desc(ChunkIndex{c});
        d->coarse = what.coarse ? 1 : 0;
        d->bitmaps = what.sparse ? 0 : ~u64{0};
        d->free = ~u64{0};
        d->zero = what.zero ? ~u64{0} : 0;
        d->committed = what.committed ? ~u64{0} : 0;
        refile(ChunkIndex{c}, d);
        if (what.dirty) mark_dirty(ChunkIndex{c}, d, ~u64{0}, now);
        // Release: who sees that the chunk is ours sees its masks.
        d->holder.store(holder_, std::memory_order_release);
        AEP_HEAP_CRASH_POINT("arena: chunk added");
    }
    chunks_held_ += count;
    // Release: whoever sees the new limit may read the metadata below it.
    if (raw(first) < chunk_first_) chunk_first_ = raw(first);
    if (raw(first) + count > chunk_limit())
        chunk_limit_.store(raw(first) + count, std::memory_order_release);
}

namespace {

/// At most `due` of the chunk's dirty slices, the upper ones: runs are taken from below. Of a
/// coarse chunk the whole of a huge page's, or none: a part would break the page up. Then less than
/// a huge page stays.
u64 part_to_purge(const ChunkDesc* d, u32 due) {
    u64 mask = d->dirty;
    const auto fits = [&] { return bits_in(mask) <= due; };
    if (d->coarse != 0) {
        constexpr u32 HALF = SLICES_PER_CHUNK / 2;
        if (!fits() && (mask >> HALF) != 0) mask &= ~mask_of(0, HALF);
        return fits() ? mask : 0;
    }
    while (!fits()) mask &= mask - 1;
    return mask;
}

}  // namespace

Arena::Purge Arena::purge_begin(u64 now, u64 decay) {
    LockScope scope(lock_);
    const u32 due = decay_.due(now, decay);
    if (due == 0) return {};
    ChunkIndex c;
    while (ChunkDesc* d = pop_dirty(c)) {
        if (d->dirty == 0) continue;
        // What was given to again comes after what was not.
        if (d->given_again && dirty_first_ != raw(NO_CHUNK)) {
            push_dirty(c, d);
            continue;
        }
        const u64 mask = part_to_purge(d, due);
        if (mask == 0) {
            return_dirty(c, d);
            break;
        }
        d->dirty &= ~mask;
        d->free &= ~mask;
        if (d->dirty != 0) return_dirty(c, d);
        refile(c, d);
        decay_.purged(bits_in(mask), now);
        AEP_HEAP_CRASH_POINT("arena: purge begun");
        return {c, mask};
    }
    return {};
}

void Arena::purge_end(Purge purge, u64 zero, bool still_committed) {
    LockScope scope(lock_);
    ChunkDesc* d = chunk_desc(purge.chunk);
    d->free |= purge.mask;
    d->zero |= zero & purge.mask;
    if (!still_committed) {
        d->committed &= ~purge.mask;
        for (u64 mask = purge.mask; mask != 0; mask &= mask - 1) {
            const u32 slice = raw(first_slice(purge.chunk)) + lowest_bit(mask);
            // Written only where there is something: descriptors within long runs have no memory.
            PageDesc* part = desc_of(SliceIndex{slice});
            if (part->committed != 0) part->committed = 0;
        }
    }
    refile(purge.chunk, d);
    AEP_HEAP_CRASH_POINT("arena: purge ended");
}

ChunkIndex Arena::detach_free_chunk(u32 keep) {
    LockScope scope(lock_);
    u32 found = ChunkSets::NONE;
    u32 spare = 0;
    for (u32 c = by_rank_.next(RANKS - 1, 0); c != ChunkSets::NONE;
         c = by_rank_.next(RANKS - 1, c + 1)) {
        const ChunkDesc* d = chunk_desc(ChunkIndex{c});
        if (d->dirty != 0 || d->on_dirty_list) continue;
        found = c;
        ++spare;
    }
    if (spare <= keep) return NO_CHUNK;
    ChunkDesc* d = chunk_desc(ChunkIndex{found});
    d->holder.store(0, std::memory_order_relaxed);
    d->free = d->zero = d->committed = d->bitmaps = 0;
    refile(ChunkIndex{found}, d);
    --chunks_held_;
    AEP_HEAP_CRASH_POINT("arena: chunk detached");
    return ChunkIndex{found};
}

}  // namespace aep
