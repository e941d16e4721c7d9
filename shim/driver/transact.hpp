// Purpose: the driver's way to the operations of the heap: behind the gate that a fork closes, and
//          through the door into the image when the heap is in a context.
// Who calls it: whoever in the driver performs an operation; forking.cpp.
// Crash rule: private to the process; what an operation leaves, dsm-core says.
#pragma once

#include "dsm-core/op/check_operation.hpp"
#include "dsm-core/op/heap_ops.hpp"
#include "shim/context/door.hpp"
#include "shim/driver/process.hpp"

namespace aep {

namespace detail {

/// One operation's stay behind the gate; a scope. It waits for a fork in progress, and fork for it.
class Turn {
  public:
    /// On behalf of heap `h` (null: a thread without heap), which is this thread's.
    explicit Turn(Heap* h);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

  private:
    Heap* h_;
};

/// The same in another thread's heap while that thread is outside. With signals blocked.
class VisitorsTurn {
  public:
    explicit VisitorsTurn(Heap* h);
    ~VisitorsTurn();
    VisitorsTurn(const VisitorsTurn&) = delete;
    VisitorsTurn& operator=(const VisitorsTurn&) = delete;

    /// False: the thread is inside, or a fork goes on: nothing may be done.
    explicit operator bool() const { return may_; }

  private:
    Heap* h_;
    bool entered_, may_;
};

template <class O>
Heap* heap_of(const O& o) {
    if constexpr (requires { o.heap; }) return o.heap;
    return nullptr;
}

/// In the checked build, after operation `number`: ends the process if an invariant is broken.
void require_sound(u32 number, const Touched& touched);

/// The operation itself: here, from the first fork on and in private mode; else in the image.
template <HeapOperation O>
typename O::Reply perform_behind_gate(const O& o) {
    const typename O::Reply reply = AEP_LIKELY(!heap_in_context.load(std::memory_order_relaxed))
                                        ? perform(domain(), o)
                                        : perform_in_image(o);
#if defined(AEP_CHECKED)
    require_sound(number_of<O>(), touched_by(o, reply));
#endif
    return reply;
}

/// What every operation is followed by, outside the gate. `twice_freed`: a block that was found to
/// be; 0: none.
void after_operation(uptr twice_freed);

}  // namespace detail

/// Performs an operation of the heap on behalf of its `heap` (none, or null: of a thread without
/// heap), after waiting for a fork in progress. Reports blocks found freed twice.
template <HeapOperation O>
typename O::Reply transact(const O& o) {
    const auto perform_it = [&] {
        const detail::Turn turn(detail::heap_of(o));
        return detail::perform_behind_gate(o);
    };
    const typename O::Reply reply = perform_it();
    if constexpr (requires { reply.twice_freed; })
        detail::after_operation(reply.twice_freed);
    else
        detail::after_operation(0);
    return reply;
}

/// The same for another thread's heap while that thread is outside; miss, and nothing is done: it is
/// not, or a fork goes on. With signals blocked.
template <HeapOperation O>
typename O::Reply visit(const O& o) {
    const detail::VisitorsTurn turn(o.heap);
    if (!turn) return {.status = Status::miss};
    return detail::perform_behind_gate(o);
}

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
