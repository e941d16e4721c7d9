// Purpose: see idle_heaps.hpp.
// Who calls it: see idle_heaps.hpp.
// Crash rule: see idle_heaps.hpp.
#include "shim/driver/idle_heaps.hpp"

#include "shim/driver/process.hpp"
#include "shim/driver/transact.hpp"
#include "shim/sys/signals_blocked.hpp"

namespace aep {
namespace {

constexpr u32 LONGEST_PAUSE = 63;
std::atomic<u32> pause{0};  // calls to pass over after the last visit
std::atomic<u32> calls{0};  // since then

bool has_remote_frees(const Heap* h) {
    return h->remote_pages.load(std::memory_order_relaxed) != nullptr;
}

}  // namespace

bool pages_wait() {
    const Domain& dom = domain();
    for (u32 n = 1; n <= dom.heaps_used; ++n)
        if (has_remote_frees(heap_at(dom, n))) return true;
    return false;
}

bool take_back_all(u64 now) {
    if (!pages_wait()) return false;
    const SignalsBlocked scope;
    const Domain& dom = domain();
    bool any = false;
    for (u32 n = 1; n <= dom.heaps_used; ++n) {
        Heap* h = heap_at(dom, n);
        if (!has_remote_frees(h)) continue;
        any |= visit(op::TakeBack{.heap = h, .now = now}).status == Status::ok;
    }
    return any;
}

bool take_back_if_worth(u64 now) {
    const u32 between = pause.load(std::memory_order_relaxed);
    if (calls.fetch_add(1, std::memory_order_relaxed) < between || !pages_wait()) return false;
    calls.store(0, std::memory_order_relaxed);
    const bool any = take_back_all(now);
    const u32 longer = between * 2 + 1;
    pause.store(any                      ? 0
                : longer < LONGEST_PAUSE ? longer
                                         : LONGEST_PAUSE,
                std::memory_order_relaxed);
    return any;
}

}  // namespace aep
