// Purpose: the one door into the operations of the heap, and the gate in it that a fork closes.
// Who calls it: whoever in the driver performs an operation; forking.cpp.
// Crash rule: private to the process; what an operation leaves, dsm-core says.
#pragma once

#include "dsm-core/heap/ops.hpp"

namespace aep {

/// Performs an operation on behalf of `request.heap` (null: a thread without heap), after waiting
/// for a fork in progress. Reports blocks found freed twice. A plain call in private mode; in the
/// image when the heap is in a context.
Reply transact(const Request& request);

/// Performs an operation of another thread's heap, `request.heap`, while that thread is outside;
/// miss, and nothing is done: it is not, or a fork goes on. With signals blocked.
Reply visit(const Request& request);

/// A signal handler has jumped out of an operation of the calling thread, whose heap is `own`: it
/// is inside no more.
void leave_operations(Heap* own);

/// For a fork: waits until each thread is outside its operation and keeps it there. `self`: the
/// calling thread's heap (null: none), which alone may be inside, as happens when a signal handler
/// forks; it goes on with that operation in both processes.
void close_gate(Heap* self);
/// In the parent: operations go on.
void open_gate();
/// In the child, with its domain in place: other threads' operations never happened.
void open_gate_in_child(Heap* self);

}  // namespace aep
