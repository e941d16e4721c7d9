// Purpose: the invariants of what one operation touched, walked right after it.
// Who calls it: the door to the heap's operations in the checked build (AEP_CHECKED).
// Crash rule: reads only.
#pragma once

#include "dsm-core/heap/check_report.hpp"
#include "dsm-core/op/heap_operations.hpp"

namespace aep {

/// What an operation may have changed.
struct Touched {
    const Heap* heap = nullptr;      // its lists; null: none, or another thread may have it by now
    const PageDesc* page = nullptr;  // to be looked at in depth
    SliceIndex first{};              // in chunks whose masks may be others now
    u32 slices = 0;
};

namespace detail {

constexpr Touched touched_chunk(Touched so_far, Status status, ChunkIndex chunk) {
    if (status == Status::ok) so_far.first = first_slice(chunk), so_far.slices = 1;
    return so_far;
}

}  // namespace detail

template <class O>
Touched touched_by(const O& o, const typename O::Reply& reply) {
    using namespace op;
    Touched t;
    if constexpr (requires { o.heap; }) t.heap = o.heap;
    if constexpr (requires { reply.page; }) t.page = reply.page;
    if constexpr (requires { reply.run; }) t.first = reply.run.first, t.slices = reply.run.slices;
    if constexpr (requires { reply.added; })
        t.first = reply.added.first, t.slices = reply.added.slices;
    if constexpr (requires { o.address; }) {
        if (t.slices == 0) t.first = slice_at(o.address), t.slices = 1;
    }
    if constexpr (requires { reply.chunk; })
        return detail::touched_chunk(t, reply.status, reply.chunk);
    if constexpr (requires { o.chunk; }) return detail::touched_chunk(t, Status::ok, o.chunk);
    if constexpr (std::is_same_v<O, GiveRun>) t.first = o.first, t.slices = o.slices;
    if constexpr (std::is_same_v<O, AddChunks>)
        t.first = first_slice(o.first), t.slices = o.count * SLICES_PER_CHUNK;
    // The heap's owner goes on taking and freeing blocks; another thread may have the heap by now.
    if constexpr (std::is_same_v<O, TakeBack> || std::is_same_v<O, AbandonHeap>) t.heap = nullptr;
    return t;
}

/// What an operation touched, right after it, by the thread that performed it; other threads may go
/// on: the caller's heap with one page in depth, the chunks of the runs that were moved. Cost: some
/// microseconds; heaps of very many pages are walked once in a while only.
bool check_touched(const Domain& dom, const Touched& touched, CheckReport& report);

/// With an interval other than 0, every so many calls of check_touched become a walk of the whole
/// domain: for tests whose only thread uses the domain. 0 (the default) turns it off.
void check_domain_every(u32 interval);

}  // namespace aep
