// Purpose: see growth.hpp.
// Who calls it: see growth.hpp.
// Crash rule: see growth.hpp.
#include "shim/driver/growth.hpp"

#include <errno.h>

#include "shim/backing/domain_memory.hpp"
#include "shim/context/join.hpp"
#include "shim/driver/idle_heaps.hpp"
#include "shim/driver/process.hpp"
#include "shim/driver/purging.hpp"
#include "shim/driver/scarcity.hpp"
#include "shim/driver/slow_path.hpp"
#include "shim/driver/transact.hpp"

namespace aep {

constinit ProcessLock growth_lock{LockName::growth};

namespace {

void note_chunks(const ChunkRun& run) {
    const usize end = (usize{raw(run.first)} + run.count) * SLICES_PER_CHUNK;
    // Release: whoever passes the window check may read the metadata behind it. Under the growth
    // lock.
    if (end > window_slices.load(std::memory_order_relaxed)) {
        window_slices.store(end, std::memory_order_release);
    }
    transact(op::AddChunks{.first = run.first,
                           .count = run.count,
                           .now = run.dirty ? now_ms() : 0,
                           .dirty = run.dirty,
                           .zero = run.zero,
                           .committed = backing().commit == nullptr,
                           .coarse = run.coarse});
}

/// Takes chunks from the backing. False: there are none. Under the growth lock.
bool grow(u32 chunks, u32 alignment, ChunkIndex at, u32* first = nullptr) AEP_UNDER(growth_lock) {
    const ChunkRun run = backing().provide(chunks, alignment, at);
    if (!run) return false;
    if (!open_arena(domain(), raw(run.first) + run.count)) {
        backing().release(run.first, run.count);
        return false;
    }
    note_chunks(run);
    note_scarcity(backing().is_scarce != nullptr && backing().is_scarce());
    if (first != nullptr) *first = raw(run.first);
    return true;
}

/// Makes the first `bytes` of the run writable, or gives it back.
bool commit_run(Run& run, usize bytes) {
    if (run.coarse) bytes = round_up(bytes, SLICE_SIZE);
    if (run.committed >= bytes) return true;
    if (backing().commit(run.address() + run.committed, bytes - run.committed)) {
        run.committed = bytes;
        if (const u32 whole = static_cast<u32>(bytes >> SLICE_SHIFT); whole != 0) {
            transact(op::CommitRun{.first = run.first, .slices = whole});
        }
        return true;
    }
    transact(op::GiveRun{.first = run.first, .slices = run.slices, .now = now_ms()});
    return false;
}

/// Others, who need not grow, may take what one got before it comes to it: that is no lack of
/// memory.
constexpr int MOST_GROWTHS = 16;

Run take_or_grow(const op::TakeRun& take) {
    auto reply = transact(take);
    if (reply.status == Status::ok) return reply.run;
    const ProcessLockScope scope(growth_lock);
    const u32 chunks =
        static_cast<u32>((u64{take.slices} + SLICES_PER_CHUNK - 1) / SLICES_PER_CHUNK);
    const u32 alignment =
        take.alignment <= SLICES_PER_CHUNK ? 1 : take.alignment / SLICES_PER_CHUNK;
    for (int growth = 0;; ++growth) {
        reply = transact(take);  // another thread may have grown meanwhile
        if (reply.status == Status::ok) return reply.run;
        if (growth == MOST_GROWTHS) return {};
        if (growth == 0 && take_back_if_worth(now_ms())) continue;
        if (!grow(chunks, alignment, NO_CHUNK)) return {};
    }
}

/// Commits more of a page, and extends it if it is exhausted. False: no memory. `needed`: memory
/// that is only kept for reuse goes back before that is said.
bool extend_page(Heap* heap, PageDesc* d, bool needed) {
    const bool coarse = chunk_desc(chunk_of(slice_of(d)))->coarse != 0;
    usize goal = commit_goal(d->size_class, usize{d->extended} * d->block_size);
    if (coarse) goal = round_up(goal, SLICE_SIZE);
    const uptr end = base_of(d) + d->committed;
    if (!backing().commit(end, goal - d->committed)) {
        if (!needed) return false;
        purge_all();  // memory that is only kept for reuse may be what is missing
        if (!backing().commit(end, goal - d->committed)) return false;
    }
    transact(op::ExtendPage{.heap = heap, .page = d, .committed = goal});
    return true;
}

}  // namespace

Run obtain_run(Heap* heap, u32 slices, u32 alignment_slices, usize bytes) {
    op::TakeRun take{.heap = heap, .slices = slices, .alignment = alignment_slices};
    for (int attempt = 0; attempt < 2; ++attempt) {
        Run run = take_or_grow(take);
        if (run && commit_run(run, bytes)) return run;
        // The last resort: memory that is only kept for reuse may be what is missing, and a run
        // over a chunk's border may do.
        purge_all();
        take.thorough = true;
    }
    return {};
}

Run obtain_run_within(Heap* heap, u32 slices, u32 alignment_slices, usize bytes,
                      bool (*suits)(u32 chunk)) {
    op::TakeRun take{.heap = heap, .slices = slices, .alignment = alignment_slices};
    const u32 chunks = (slices + SLICES_PER_CHUNK - 1) / SLICES_PER_CHUNK;
    const u32 alignment =
        alignment_slices <= SLICES_PER_CHUNK ? 1 : alignment_slices / SLICES_PER_CHUNK;
    const ProcessLockScope scope(growth_lock);
    for (int growth = 0;; ++growth) {
        const u32 limit = domain().arena.chunk_limit();
        for (u32 first = domain().arena.chunk_first(); first < limit;) {
            u32 end = first;
            while (end < limit && suits(end)) ++end;
            if (end != first) {
                take.first_chunk = first;
                take.end_chunk = end;
                auto reply = transact(take);
                if (reply.status == Status::ok) {
                    return commit_run(reply.run, bytes) ? reply.run : Run{};
                }
            }
            first = end + 1;
        }
        if (growth == MOST_GROWTHS) return {};
        u32 first = 0;
        if (!grow(chunks, alignment, NO_CHUNK, &first)) return {};
        if (!suits(first)) return {};  // memory of another kind is all there is
    }
}

PageDesc* page_found(Heap* heap, const op::FindPage::Reply& found) {
    PageDesc* d = found.page;
    if (found.status == Status::uncommitted) return extend_page(heap, d, true) ? d : nullptr;
    if (found.tight) extend_page(heap, d, false);
    return d;
}

bool extend_window(u32 at, u32 chunks) {
    const ProcessLockScope scope(growth_lock);
    return at == domain().arena.chunk_limit() && grow(chunks, 1, ChunkIndex{at});
}

bool commit_page_metadata(const Run& run) {
    if (AEP_LIKELY(backing().commit_page == nullptr)) return true;
    if (backing().commit_page(run.first)) return true;
    transact(op::GiveRun{.first = run.first, .slices = run.slices, .now = now_ms()});
    return false;
}

bool add_heaps() {
    const ProcessLockScope scope(growth_lock);
    const u32 have = domain().heaps_mapped.load(std::memory_order_relaxed);
    if (have > domain().heaps_used) return true;
    // Memory of a context is made present at once, so little of it at a time.
    const bool shared = backing().commit_domain != nullptr;
    u32 count = have + (shared ? HEAPS_PER_STEP / 16 : HEAPS_PER_STEP);
    if (count > MAX_HEAPS) count = MAX_HEAPS;
    if (count == have) return false;
    const uptr begin = domain_address + heaps_end(have);
    const usize bytes = heaps_end(count) - heaps_end(have);
    if (!(shared ? backing().commit_domain(begin, bytes) : map_own_heaps(begin, bytes))) {
        return false;
    }
    transact(op::AddHeaps{.mapped = count});
    return true;
}

long attach_again() {
    const SlowPath here;
    if (here.nested()) return -EDEADLK;
    const ProcessLockScope scope(growth_lock);
    if (this_client.attached) return 0;
    return this_client.joined ? join_again() : -ENOTCONN;
}

}  // namespace aep
