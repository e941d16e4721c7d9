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

/// Changes whenever chunks were added. Under the growth lock, or a hint.
std::atomic<u32> growths{0};

/// Others, who need not grow, may take what one got before it comes to it: that is no lack of
/// memory.
constexpr int MOST_GROWTHS = 16;

/// Takes chunks from the backing, for the operation that adds them. count 0: there are none. Under
/// the growth lock, until that operation is over.
op::AddChunks provide(u32 chunks, u32 alignment, ChunkIndex at) AEP_UNDER(growth_lock) {
    const ChunkRun run = backing().provide(chunks, alignment, at);
    if (!run) return {};
    if (!open_arena(domain(), raw(run.first) + run.count)) {
        backing().release(run.first, run.count);
        return {};
    }
    const usize end = (usize{raw(run.first)} + run.count) * SLICES_PER_CHUNK;
    // Release: whoever passes the window check may read the metadata behind it. Under the growth
    // lock.
    if (end > window_slices.load(std::memory_order_relaxed))
        window_slices.store(end, std::memory_order_release);
    growths.fetch_add(1, std::memory_order_relaxed);
    note_scarcity(backing().is_scarce != nullptr && backing().is_scarce());
    return {.first = run.first,
            .count = run.count,
            .now = run.dirty ? now_ms() : 0,
            .dirty = run.dirty,
            .zero = run.zero,
            .committed = backing().commit == nullptr,
            .coarse = run.coarse,
            .sparse = backing().commit_page != nullptr};
}

/// Adds chunks. False: there are none. Under the growth lock.
bool grow(u32 chunks, u32 alignment, ChunkIndex at, u32* first = nullptr) AEP_UNDER(growth_lock) {
    const op::AddChunks added = provide(chunks, alignment, at);
    if (added.count == 0) return false;
    transact(added);
    if (first != nullptr) *first = raw(added.first);
    return true;
}

u32 chunks_for(u32 slices) {
    return static_cast<u32>((u64{slices} + SLICES_PER_CHUNK - 1) / SLICES_PER_CHUNK);
}
u32 chunk_alignment(u32 slices) {
    return slices <= SLICES_PER_CHUNK ? 1 : slices / SLICES_PER_CHUNK;
}

/// What makes the beginning of new chunks ready for the operation that adds them, which then need
/// not ask for it.
void prepare_start(op::Refill& ask) {
    if (backing().commit == nullptr) return;
    const SliceIndex first = first_slice(ask.chunks.first);
    const usize least = commit_goal(ask.size_class, 0);
    const usize goal = ask.chunks.coarse ? round_up(least, SLICE_SIZE) : least;
    if (backing().commit(slice_address(first), goal)) ask.committed = goal;
    if (backing().commit_page != nullptr) ask.bitmaps = backing().commit_page(first);
}
void prepare_start(op::MakeLarge&) {}

/// An operation that lacked chunks for so many slices, so aligned, again with some. `reply` says
/// need_chunks still if there are none. `seen`: growths before it was asked.
template <class O>
void ask_with_chunks(O ask, typename O::Reply& reply, u32 seen, u32 slices, u32 alignment) {
    const ProcessLockScope scope(growth_lock);
    const auto is_served = [&] {
        reply = transact(ask);
        return reply.status != Status::need_chunks;
    };
    // Another thread has grown meanwhile, or pages come back.
    if (growths.load(std::memory_order_relaxed) != seen && is_served()) return;
    if (take_back_if_worth(now_ms()) && is_served()) return;
    for (int growth = 0; growth < MOST_GROWTHS; ++growth) {
        O with = ask;
        with.chunks = provide(chunks_for(slices), chunk_alignment(alignment), NO_CHUNK);
        if (with.chunks.count == 0) return;
        prepare_start(with);
        reply = transact(with);
        if (reply.status != Status::need_chunks) return;
    }
}

void give_run(const Run& run) {
    transact(op::GiveRun{.first = run.first, .slices = run.slices, .now = now_ms()});
}

/// Makes the first `goal` bytes of a reserved run writable.
bool commit_start(Run& run, u64 goal) {
    if (run.committed >= goal) return true;
    if (!backing().commit(run.address() + run.committed, goal - run.committed)) return false;
    run.committed = goal;
    return true;
}

/// What a page or a run lacks, so that the operation can go on. False: no memory; a run was given
/// back.
bool provide_what_lacks(op::Refill& ask, const op::Refill::Reply& reply) {
    if (reply.page != nullptr) {
        PageDesc* d = reply.page;
        if (!backing().commit(base_of(d) + d->committed, reply.goal - d->committed)) return false;
        ask.page = d;
        ask.committed = reply.goal;
        return true;
    }
    Run run = reply.run;
    const u64 bitmaps = reply.bitmaps ? backing().commit_page(run.first) : 0;
    if ((!reply.bitmaps || bitmaps != 0) && commit_start(run, reply.goal)) {
        ask.run = run;
        ask.bitmaps = bitmaps;
        return true;
    }
    give_run(reply.run);
    return false;
}

}  // namespace

PageDesc* refill(const op::Refill& wanted) {
    bool purged = false;
    op::Refill ask = wanted;
    for (;;) {
        const u32 seen = growths.load(std::memory_order_relaxed);
        op::Refill::Reply reply = transact(ask);
        ask = wanted;
        ask.thorough = wanted.thorough || purged;
        if (reply.status == Status::need_chunks)
            ask_with_chunks(ask, reply, seen, page_slices(ask.size_class), 1);
        if (reply.status == Status::miss) return nullptr;
        if (reply.status == Status::ok) {
            if (reply.fresh) note_page_taken();
            // It has few blocks: better more, but it does without.
            if (reply.goal != 0 && provide_what_lacks(ask, reply)) transact(ask);
            return reply.page;
        }
        if (reply.status == Status::uncommitted && provide_what_lacks(ask, reply)) continue;
        // The last resort: memory that is only kept for reuse may be what is missing, a run over a
        // chunk's border may do, and so may the last blocks of full pages.
        if (purged || wanted.run) return nullptr;
        purge_all();
        purged = true;
        ask.thorough = true;
    }
}

Run make_large(const op::MakeLarge& wanted) {
    bool purged = false;
    op::MakeLarge ask = wanted;
    for (;;) {
        const u32 seen = growths.load(std::memory_order_relaxed);
        op::MakeLarge::Reply reply = transact(ask);
        ask.run = {};
        if (reply.status == Status::need_chunks)
            ask_with_chunks(ask, reply, seen, ask.slices, ask.alignment);
        if (reply.status == Status::ok) return reply.run;
        if (reply.status == Status::miss) return {};
        if (reply.status == Status::uncommitted) {
            ask.run = reply.run;
            if (commit_start(ask.run, reply.goal)) continue;
            give_run(reply.run);
            ask.run = {};
        }
        if (purged || wanted.run) return {};
        purge_all();
        purged = true;
        ask.thorough = true;
    }
}

Run obtain_run_within(Heap* heap, u32 slices, u32 alignment_slices, bool (*suits)(u32 chunk)) {
    op::TakeRun take{.heap = heap, .slices = slices, .alignment = alignment_slices};
    const u32 chunks = chunks_for(slices);
    const u32 alignment = chunk_alignment(alignment_slices);
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
                if (reply.status == Status::ok) return reply.run;
            }
            first = end + 1;
        }
        if (growth == MOST_GROWTHS) return {};
        u32 first = 0;
        if (!grow(chunks, alignment, NO_CHUNK, &first)) return {};
        if (!suits(first)) return {};  // memory of another kind is all there is
    }
}

bool extend_window(u32 at, u32 chunks) {
    const ProcessLockScope scope(growth_lock);
    return at == domain().arena.chunk_limit() && grow(chunks, 1, ChunkIndex{at});
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
    if (!(shared ? backing().commit_domain(begin, bytes) : map_own_heaps(begin, bytes)))
        return false;
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
