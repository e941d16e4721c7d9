// Purpose: the invariants of the heap, walked: what must hold of every chunk, page, heap and large
//          object between two operations, in words that name what is broken.
// Who calls it: tests; the checked build (AEP_CHECKED) after every operation.
// Crash rule: reads only. No allocation, no libc: it can run where the heap is already damaged.
#pragma once

#include "dsm-core/heap/check_report.hpp"
#include "dsm-core/heap/ops.hpp"

namespace aep {

/// Walks the whole domain: every chunk, every slice's descriptor and bitmaps, every page with its
/// caches, every heap with its lists, all counters. False: `report` names the first violation.
/// No other thread may use the domain meanwhile. Cost: linear in the chunks held, about 10 us for
/// each page of small blocks.
bool check_domain(const Domain& dom, CheckReport& report, CheckMoment moment = CheckMoment::idle);

/// One heap's lists, and its page `deep` (null: none) block by block. By the heap's owner; other
/// threads may go on. Cost: linear in the heap's pages.
bool check_heap(const Heap* h, const PageDesc* deep, CheckReport& report);

/// What an operation touched, right after it, by the thread that performed it; other threads may go
/// on: the caller's heap with one page in depth, the chunks of the runs that were moved. Cost: some
/// microseconds; heaps of very many pages are walked once in a while only.
bool check_operation(const Domain& dom, const Request& request, const Reply& reply,
                     CheckReport& report);

/// With an interval other than 0, every so many calls of check_operation become a walk of the whole
/// domain: for tests whose only thread uses the domain. 0 (the default) turns it off.
void check_domain_every(u32 interval);

}  // namespace aep
