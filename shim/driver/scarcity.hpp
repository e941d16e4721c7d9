// Purpose: how threads get along where memory is scarce. A page belongs to one thread: thousands of
//          threads that need a few blocks of a few sizes would take all of a small pool for them.
//          So while little is left, a thread takes its first blocks of a size from the heap that
//          all threads have together, and a page for itself once it needs a part of one.
// Who calls it: allocator.cpp; process.cpp says what is left.
// Crash rule: private to the process.
#pragma once

#include "dsm-core/heap/heap.hpp"

namespace aep {

/// What the backing says when chunks were taken: little is left.
void note_scarcity(bool scarce);

/// Whether heap `h`, the calling thread's or the shared one, may take a page of class `c`. For the
/// shared heap that is asked for a thread without one, or after the thread's own was refused: not
/// when there was no memory. Cost: a load of a variable that nobody writes.
bool may_take_page(const Heap* h, u32 c);

/// The thread has taken a fresh page.
void note_page_taken();

/// The thread takes a block of class `c` from the shared heap instead.
void note_borrowed(u32 c);

}  // namespace aep
