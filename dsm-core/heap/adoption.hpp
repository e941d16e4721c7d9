// Purpose: heaps without a thread: abandoned at thread exit, adopted by others; repaired in a fork
// child. Who calls it: op/heap_ops.cpp. Crash rule: inside an operation, lists under heaps_lock.
//
// What two at once may see. The lists of heaps without a thread change under heaps_lock.
//
//   adopt | adopt, acquire       different heaps
//   adopt | mark                 the mark stays in the page; tags change by xor here and by or there
//   adopt | remote_requeue       see remote.hpp
//   adopt | take_back            of a heap in an adopter's hands (`unused`) nothing is taken back
//   adopt | owner_of             the former owner or the next; both are heaps, for ever
#pragma once

#include "dsm-core/heap/domain.hpp"

namespace aep {

/// Takes the first heap off a list (abandoned or unused); null when it is empty. Under heaps_lock.
Heap* pop_heap(Heap*& list);

/// Puts a heap without thread on the list where it belongs: unused when it has no page, else
/// abandoned. Under heaps_lock.
void abandon_heap(Domain& dom, Heap* h) AEP_UNDER(dom.heaps_lock);

/// Merges the pages of one abandoned heap into `h`. False: there was none. Cost: linear in that
/// heap's pages.
bool adopt_one(Domain& dom, Heap* h);

/// In a fork child, where only the caller's thread exists: heaps of the other threads become
/// abandoned, their pages' caches are computed anew (a thread may have been in the middle of the
/// fast path), locks are reset. `survivor` may be null. Not checked: nobody else is there to lock out.
void repair_after_fork(Domain& dom, Heap* survivor, u64 now) AEP_NOT_CHECKED;

}  // namespace aep
