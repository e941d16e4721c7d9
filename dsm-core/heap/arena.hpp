// Purpose: the arena hands out runs of slices from the chunks this process (or context) holds: the
// level between
//          pages and chunks. Freed runs are kept for reuse and decay back to the system.
// Who calls it: the heap operations (op/heap_ops.cpp); the driver tells it about new chunks and purged
// ranges. Crash rule: all changes happen under its lock; a run is either free or reserved for an
// owner (tag of its first slice).
#pragma once

#include "dsm-core/base/index_set.hpp"
#include "dsm-core/base/lock.hpp"
#include "dsm-core/heap/decay.hpp"
#include "dsm-core/heap/page.hpp"

namespace aep {

/// One chunk of an arena: a bit a slice. Zeroed memory: a chunk that no arena holds.
struct ChunkDesc {
    u64 free;        // not part of any run
    u64 zero;        // free slices that read as zero
    u64 committed;   // writing cannot fail (PageDesc::committed has parts of others)
    u64 dirty;       // free slices with memory behind them
    u64 bitmaps;     // a page that begins there has bitmaps that can be written
    u32 next_dirty;  // FIFO of chunks with dirty slices, NO_CHUNK-terminated
    u8 on_dirty_list;
    u8 given_again;  // since it came to its place there: it goes to the end once more
    u8 rank;         // run_rank(free): which bin it is in, 0 = none
    u8 coarse;       // its memory comes in large pieces
    // Index of the domain that holds the chunk, plus 1; 0: none. Written last when a chunk is added
    // and first when it is taken away, so that other domains never take it for theirs.
    std::atomic<u16> holder;
};
static_assert(sizeof(ChunkDesc) <= 64);

inline ChunkDesc* chunk_desc(ChunkIndex c) {
    // At another line of its OS page than its neighbours', or all would meet in one cache set.
    const uptr line = raw(c) % 64 * 64;
    return reinterpret_cast<ChunkDesc*>(CHUNK_DESCS.base + CHUNK_DESCS.stride * raw(c) + line);
}

/// A run of adjacent slices, possibly over several chunks.
struct Run {
    SliceIndex first{};
    u32 slices = 0;
    bool zero = false;    // all of it reads as zero
    bool coarse = false;  // its memory comes in large pieces: to be committed by whole slices
    usize committed = 0;  // bytes from its start that can be written
    explicit operator bool() const { return slices != 0; }
    uptr address() const { return slice_address(first); }
    usize bytes() const { return usize{slices} << SLICE_SHIFT; }
};

/// What growing a large object in place met.
enum class GrowResult { grown, blocked, beyond_last_chunk };

class Arena {
  public:
    /// Zeroed memory plus init() is an empty arena, that of domain number `domain_index`.
    void init(u32 domain_index) AEP_NOT_CHECKED;  // nobody else knows of it

    /// Whether the chunk is this arena's.
    bool holds(const ChunkDesc* d) const {
        return d->holder.load(std::memory_order_acquire) == holder_;
    }

    /// Takes a run of `slices`, its first slice at a multiple of `alignment` slices (a power of
    /// two), and marks it reserved for heap `owner`. Empty when there is none. Runs of up to a
    /// chunk are looked for inside chunks, in constant time, unless `thorough`; others across
    /// chunks, linear in the number of chunks.
    Run take(u32 slices, u32 alignment, u32 owner, bool thorough = false);

    /// The same from chunks [first, end) alone, linear in their number.
    Run take_between(u32 first, u32 end, u32 slices, u32 alignment, u32 owner);

    /// Returns a run. Its alloc bitmap must be clear. `now` in ms starts its decay. Of its bytes
    /// the first `committed` can be written, beside what set_committed said.
    void give(SliceIndex first, u32 slices, u64 now, usize committed = 0);

    /// Marks slices of a taken run as committed.
    void set_committed(SliceIndex first, u32 slices);

    /// Marks slices of a chunk as such whose bitmaps can be written.
    void set_bitmaps(ChunkIndex c, u64 slices);
    /// Whether those of a page that begins at the first slice of a taken run can.
    static bool has_bitmaps(SliceIndex first) {
        const ChunkDesc* d = chunk_desc(chunk_of(first));
        return (read_shared(d->bitmaps, std::memory_order_relaxed) >>
                    (raw(first) % SLICES_PER_CHUNK) &
                1) != 0;
    }

    /// Extends the run [first, first+old_slices) to `new_slices` if the slices behind it are free.
    /// On `grown`, `added` is the new part.
    GrowResult grow(SliceIndex first, u32 old_slices, u32 new_slices, Run& added);

    /// What is known of chunks that a backing provided.
    struct Added {
        bool zero;       // they read as zero
        bool committed;  // writing them cannot fail
        bool dirty;      // they hold memory, which decays
        bool coarse;     // their memory comes in large pieces
        bool sparse;     // the bitmaps of their pages must be made present
    };
    /// Adds chunks, wholly free. `now` in ms starts the decay of dirty ones.
    void add(ChunkIndex first, u32 count, const Added& what, u64 now);

    /// Purging, in two steps so that the system call happens without the lock: begin withdraws
    /// dirty slices of one chunk, at most as many as are due with a window of `decay` ms (mask 0:
    /// none is; decay 0: all are); end returns them, those of `zero` as reading as zero.
    struct Purge {
        ChunkIndex chunk = NO_CHUNK;
        u64 mask = 0;
    };
    Purge purge_begin(u64 now, u64 decay);
    void purge_end(Purge purge, u64 zero, bool still_committed);

    /// Withdraws a wholly free and clean chunk (keeping `keep` such chunks); NO_CHUNK when there is
    /// none. add() brings it back.
    ChunkIndex detach_free_chunk(u32 keep);

    /// When purging may next be due, in ms; Decay::NEVER: not before memory is given. A cheap test.
    u64 next_purge() const { return decay_.next_look(); }
    /// How many free slices have memory behind them. Racy.
    u32 dirty_slices() const { return decay_.dirty(); }

    /// Chunks below this index were ever added: bounds every walk and every pointer check.
    u32 chunk_limit() const { return chunk_limit_.load(std::memory_order_acquire); }
    u32 chunk_first() const { return chunk_first_; }
    u32 chunks_held() const { return chunks_held_; }

    Lock& lock() AEP_RETURNS_LOCK(lock_) { return lock_; }

    /// Calls f(address, bytes) for each part of the arena that chunks below `limit` touch, while it
    /// returns true: for whoever makes its memory present ahead.
    template <class F>
    bool for_each_memory(u32 limit, F&& f) const AEP_NOT_CHECKED {  // looks at addresses alone
        const uptr begin = reinterpret_cast<uptr>(this);
        return f(begin, reinterpret_cast<uptr>(&by_rank_) - begin) &&
               by_rank_.for_each_memory(limit, f);
    }

    using ChunkSets = IndexSets<8>;  // a cache line of words, RANKS of them in use

  private:
    friend class HeapCheck;
    static constexpr u32 RANKS = 7;

    void refile(ChunkIndex c, ChunkDesc* d) AEP_UNDER(lock_);
    Run claim(SliceIndex first, u32 slices, u32 owner) AEP_UNDER(lock_);
    /// How many slices before `position` of `chunk` a long run may begin: the free end of the chunk
    /// before, which nothing that long would ever use. Without it, objects of 3 MiB would leave a
    /// quarter of every chunk empty.
    u32 overhang(u32 chunk, u32 position, u32 slices, u32 alignment) const AEP_UNDER(lock_);
    Run take_within_chunk(u32 slices, u32 alignment, u32 owner) AEP_UNDER(lock_);
    Run take_across_chunks(u32 first, u32 end, u32 slices, u32 alignment, u32 owner)
        AEP_UNDER(lock_);
    void mark_dirty(ChunkIndex c, ChunkDesc* d, u64 mask, u64 now) AEP_UNDER(lock_);
    void push_dirty(ChunkIndex c, ChunkDesc* d) AEP_UNDER(lock_);
    ChunkDesc* pop_dirty(ChunkIndex& c) AEP_UNDER(lock_);
    void return_dirty(ChunkIndex c, ChunkDesc* d) AEP_UNDER(lock_);

    Lock lock_;
    u16 holder_;  // what our chunks' descriptors say
    u32 chunks_held_;
    u32 chunk_first_;  // chunks below this index were never added: a client's may begin far up
    std::atomic<u32> chunk_limit_;
    u32 dirty_first_ AEP_GUARDED_BY(lock_);
    u32 dirty_last_ AEP_GUARDED_BY(lock_);
    Decay decay_;
    ChunkSets by_rank_
        AEP_GUARDED_BY(lock_);  // set r: chunks whose longest free run is in [2^r, 2^(r+1))
};

}  // namespace aep
