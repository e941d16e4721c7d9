// Purpose: see check_operation.hpp.
// Who calls it: see check_operation.hpp.
// Crash rule: reads only.
#include "dsm-core/op/check_operation.hpp"

#include "dsm-core/heap/check.hpp"
#include "dsm-core/heap/check_state.hpp"

namespace aep {

namespace {

/// A heap with more pages has its lists walked only once in that many pages' operations.
constexpr u32 WALK_ALWAYS = 256;

std::atomic<u32> full_interval{0};
std::atomic<u32> operations{0};

}  // namespace

void check_domain_every(u32 interval) { full_interval.store(interval, std::memory_order_relaxed); }

bool check_touched(const Domain& dom, const Touched& touched, CheckReport& report) {
    const u32 count = operations.fetch_add(1, std::memory_order_relaxed);
    const u32 interval = full_interval.load(std::memory_order_relaxed);
    if (interval != 0 && count % interval == 0)
        return check_domain(dom, report, CheckMoment::underway);

    HeapCheck check(dom, report, CheckMoment::underway);
    const Heap* h = touched.heap;
    const PageDesc* deep = touched.page;
    if (touched.slices != 0 && !check.chunk_masks_locked(touched.first, touched.slices))
        return false;
    if (h == nullptr || (h->page_count > WALK_ALWAYS && count % (h->page_count / 64) != 0))
        return deep == nullptr || check.page(deep, true);
    return check_heap(h, deep, report);
}

}  // namespace aep
