// Purpose: performs the operations of a heap, what each is: heap_operations.hpp.
// Who calls it: the driver in private mode; the image's dispatcher.
// Crash rule: see heap_operations.hpp. Lock order: heaps_lock, then the arena's lock.
//
// Each performs one operation on a domain, whose heaps alone it may name. Thread-safe; a heap is
// only ever named by the thread that owns it, or by one that has its sequence (Heap::sequence)
// while that thread is outside.
#pragma once

#include "dsm-core/op/heap_operations.hpp"

namespace aep {

op::Refill::Reply perform(Domain& dom, const op::Refill& o);
op::TakeRun::Reply perform(Domain& dom, const op::TakeRun& o);
op::GiveRun::Reply perform(Domain& dom, const op::GiveRun& o);
op::RefilePage::Reply perform(Domain& dom, const op::RefilePage& o);
op::QueuePage::Reply perform(Domain& dom, const op::QueuePage& o);
op::MakeLarge::Reply perform(Domain& dom, const op::MakeLarge& o);
op::FreeLarge::Reply perform(Domain& dom, const op::FreeLarge& o);
op::GrowLarge::Reply perform(Domain& dom, const op::GrowLarge& o);
op::ShrinkLarge::Reply perform(Domain& dom, const op::ShrinkLarge& o);
op::CommitLarge::Reply perform(Domain& dom, const op::CommitLarge& o);
op::AddChunks::Reply perform(Domain& dom, const op::AddChunks& o);
op::BeginPurge::Reply perform(Domain& dom, const op::BeginPurge& o);
op::EndPurge::Reply perform(Domain& dom, const op::EndPurge& o);
op::DetachChunk::Reply perform(Domain& dom, const op::DetachChunk& o);
op::AcquireHeap::Reply perform(Domain& dom, const op::AcquireHeap& o);
op::AbandonHeap::Reply perform(Domain& dom, const op::AbandonHeap& o);
op::AddHeaps::Reply perform(Domain& dom, const op::AddHeaps& o);
op::Trim::Reply perform(Domain& dom, const op::Trim& o);
op::RepairAfterFork::Reply perform(Domain& dom, const op::RepairAfterFork& o);
op::TakeBack::Reply perform(Domain& dom, const op::TakeBack& o);
op::TakeBlock::Reply perform(Domain& dom, const op::TakeBlock& o);
op::FreeBlock::Reply perform(Domain& dom, const op::FreeBlock& o);
op::FreeForeign::Reply perform(Domain& dom, const op::FreeForeign& o);

}  // namespace aep
