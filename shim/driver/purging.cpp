// Purpose: memory that is free goes back to the system, and chunks that hold nothing to the pool.
// Who calls it: the driver's slow paths, background.cpp.
// Crash rule: between the two operations of a purge its slices are withdrawn; a process that dies
//             there leaves chunks of its own, like others.
#include "shim/driver/purging.hpp"

#include "shim/driver/background.hpp"
#include "shim/driver/idle_heaps.hpp"
#include "shim/driver/process.hpp"
#include "shim/driver/slow_path.hpp"
#include "shim/driver/transact.hpp"

namespace aep {

constinit ProcessLock purge_lock{LockName::purge};

namespace {

constexpr int PURGES_AT_ONCE = 16;

/// Purges what is due with a window of `decay` ms; in at most `limit` chunks. True if anything was.
bool purge(u64 now, u64 decay, int limit) {
    bool any = false;
    for (int i = 0; i < limit; ++i) {
        const auto begun = transact(op::BeginPurge{.decay_ms = decay, .now = now});
        if (begun.status != Status::ok) break;
        any = true;
        const uptr base = chunk_address(begun.chunk);
        u64 zero = 0;
        for (u64 mask = begun.slices; mask != 0;) {
            const u32 first = lowest_bit(mask);
            const u64 gap = ~(mask >> first);
            const u32 length = gap == 0 ? 64 - first : lowest_bit(gap);
            const u64 run = mask_of(first, length < 64 - first ? length : 64 - first);
            if (backing().purge(base + first * SLICE_SIZE, length * SLICE_SIZE)) zero |= run;
            mask &= ~run;
        }
        // A purge that failed may have given back a part all the same.
        transact(op::EndPurge{.chunk = begun.chunk,
                              .zero_slices = zero,
                              .slices = begun.slices,
                              .committed = backing().commit == nullptr});
    }
    return any;
}

/// Lets other nodes of the pool use chunks that hold nothing.
void release_free_chunks(u32 keep) {
    for (;;) {
        const auto reply = transact(op::DetachChunk{.keep = keep});
        if (reply.status != Status::ok) return;
        const ChunkIndex chunk = reply.chunk;
        if (backing().release(chunk, 1)) continue;
        transact(
            op::AddChunks{.first = chunk, .count = 1, .sparse = backing().commit_page != nullptr});
        return;
    }
}

}  // namespace

void purge_if_due(u64 now) {
    if (AEP_LIKELY(now < domain().arena.next_purge()) || background_serves()) return;
    purge_due(now);
}

void purge_due(u64 now) {
    if (!purge_lock.try_lock()) return;
    take_back_if_worth(now);
    purge(now, settings().decay_ms, PURGES_AT_ONCE);
    if (backing().commit != nullptr) release_free_chunks(1);
    purge_lock.unlock();
}

[[gnu::noinline]] void look_at_clock() {
    const u64 due = domain().arena.next_purge();
    if (AEP_LIKELY(due == Decay::NEVER)) return;
    const u64 now = now_ms();
    if (AEP_LIKELY(now < due)) return;
    const SlowPath here;
    if (!here.nested()) purge_if_due(now);
}

bool purge_all() {
    const ProcessLockScope scope(purge_lock);
    const u64 now = now_ms();
    take_back_all(now);
    const bool any = purge(now, 0, static_cast<int>(MAX_CHUNKS));
    if (backing().commit != nullptr) release_free_chunks(0);
    return any;
}

}  // namespace aep
