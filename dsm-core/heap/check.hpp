// Purpose: the invariants of the heap, walked: what must hold of every chunk, page, heap and large
//          object between two operations, in words that name what is broken.
// Who calls it: tests; the checked build (AEP_CHECKED) after every operation (op/check_operation.hpp).
// Crash rule: reads only. No allocation, no libc: it can run where the heap is already damaged.
#pragma once

#include "dsm-core/heap/check_report.hpp"
#include "dsm-core/heap/domain.hpp"

namespace aep {

/// Walks the whole domain: every chunk, every slice's descriptor and bitmaps, every page with its
/// caches, every heap with its lists, all counters. False: `report` names the first violation.
/// No other thread may use the domain meanwhile. Cost: linear in the chunks held, about 10 us for
/// each page of small blocks.
bool check_domain(const Domain& dom, CheckReport& report, CheckMoment moment = CheckMoment::idle);

/// One heap's lists, and its page `deep` (null: none) block by block. By the heap's owner; other
/// threads may go on. Cost: linear in the heap's pages.
bool check_heap(const Heap* h, const PageDesc* deep, CheckReport& report);

}  // namespace aep
