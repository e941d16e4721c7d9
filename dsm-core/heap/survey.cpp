// Purpose: see survey.hpp.
// Who calls it: statistics, tests.
// Crash rule: reads only.
#include "dsm-core/heap/survey.hpp"

namespace aep {

Survey survey(const Domain& dom) {
    Survey s;
    const u32 limit = dom.arena.chunk_limit();
    for (u32 c = dom.arena.chunk_first(); c < limit; ++c) {
        const ChunkDesc* chunk = chunk_desc(ChunkIndex{c});
        if (!dom.arena.holds(chunk)) continue;
        s.chunk_bytes += CHUNK_SIZE;
        s.free_run_bytes += u64{bits_in(chunk->free)} << SLICE_SHIFT;
        s.dirty_bytes += u64{bits_in(chunk->dirty)} << SLICE_SHIFT;
        for (u64 used = ~chunk->free; used != 0; used &= used - 1) {
            const PageDesc* d =
                desc_of(SliceIndex{raw(first_slice(ChunkIndex{c})) + lowest_bit(used)});
            // Acquire: the fields of a page are written before its tag.
            if (kind_of(d->tag.load(std::memory_order_acquire)) != TAG_PAGE) continue;
            const u32 live = page_live_blocks(d);
            ++s.page_count;
            s.page_bytes += usize{d->slices} << SLICE_SHIFT;
            s.block_count += live;
            s.block_bytes += u64{live} * d->block_size;
            s.classes[d->size_class].pages += 1;
            s.classes[d->size_class].blocks += live;
        }
    }
    s.large_count = dom.large_count.load(std::memory_order_relaxed);
    s.large_bytes = dom.large_bytes.load(std::memory_order_relaxed);
    return s;
}

}  // namespace aep
