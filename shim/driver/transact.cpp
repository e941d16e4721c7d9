// Purpose: see transact.hpp.
// Who calls it: see transact.hpp.
// Crash rule: see transact.hpp.
#include "shim/driver/transact.hpp"

#include "dsm-core/heap/check.hpp"
#include "shim/context/slots.hpp"
#include "shim/driver/background.hpp"
#include "shim/driver/heap_turn.hpp"
#include "shim/driver/process.hpp"
#include "shim/driver/report.hpp"
#include "shim/sys/message.hpp"

namespace aep {

namespace {

/// 1: operations wait outside until fork is done. Not in the domain, whose mapping fork exchanges:
/// who sleeps on it must be found afterwards.
std::atomic<u32> gate{0};

/// This thread's part of the domain's `visitors`: more than zero only where a signal handler has
/// interrupted an operation.
__thread u32 own_visits __attribute__((tls_model("initial-exec"))) = 0;

/// Performs one operation of `h` (null: of a thread without heap) while no fork goes on.
template <class Perform>
Reply within_gate(Heap* h, Perform perform_it) {
    // seq_cst: fork closes the gate first and looks at the counters second; we do it the other way
    // round.
    const auto enter = [h] {
        if (h != nullptr) return begin_turn(h);
        domain().visitors.fetch_add(1, std::memory_order_seq_cst);
    };
    const auto leave = [h] {
        if (h != nullptr) return end_turn(h);
        domain().visitors.fetch_sub(1, std::memory_order_release);
    };
    if (h == nullptr) ++own_visits;
    enter();
    while (AEP_UNLIKELY(gate.load(std::memory_order_seq_cst) != 0)) {
        leave();
        while (gate.load(std::memory_order_acquire) != 0)
            detail::futex(&gate, detail::FUTEX_WAIT, 1);
        enter();
    }
    const Reply reply = perform_it();
    leave();
    if (h == nullptr) --own_visits;
    return reply;
}

/// Behind the gate: the first fork takes the heap out of the context.
Reply perform_checked(const Request& request) {
    const Reply result = AEP_LIKELY(!heap_in_context.load(std::memory_order_relaxed))
                             ? perform(domain(), request)
                             : perform_in_image(request);
#if defined(AEP_CHECKED)
    if (CheckReport report; !check_operation(domain(), request, result, report)) {
        fatal("broken invariant after operation ", static_cast<u32>(request.op), ": ",
              report.broken, "; ", report.kind, " ", Hex{report.object}, ", found ",
              Hex{report.found}, ", expected ", Hex{report.expected});
    }
#endif
    return result;
}

}  // namespace

Reply visit(const Request& request) {
    Reply reply{.status = Status::miss};
    if (!try_begin_turn(request.heap)) return reply;
    if (gate.load(std::memory_order_seq_cst) == 0) reply = perform_checked(request);
    end_turn(request.heap);
    // Its own thread may have come meanwhile.
    detail::futex(&request.heap->sequence, detail::FUTEX_WAKE, 0x7fff'ffff);
    return reply;
}

Reply transact(const Request& request) {
    const Reply reply = within_gate(request.heap, [&] { return perform_checked(request); });
    background_notice(domain().arena.next_purge());
    if (AEP_UNLIKELY(reply.twice_freed != 0)) report_bad_free(reply.twice_freed, BadFree::twice);
    return reply;
}

void leave_operations(Heap* own) {
    if (own != nullptr && (own->sequence.load(std::memory_order_relaxed) & 1) != 0) {
        own->sequence.fetch_add(1, std::memory_order_release);
    }
    if (own_visits != 0) domain().visitors.fetch_sub(own_visits, std::memory_order_release);
    own_visits = 0;
}

void close_gate(Heap* self) {
    gate.store(1, std::memory_order_seq_cst);
    Domain& dom = domain();
    // Operations are short: spin until each of the other threads is outside.
    for (u32 n = 1; n <= dom.heaps_used; ++n) {
        Heap* h = heap_at(dom, n);
        while (h != self && (h->sequence.load(std::memory_order_seq_cst) & 1) != 0)
            __builtin_ia32_pause();
    }
    while (dom.visitors.load(std::memory_order_seq_cst) > own_visits) __builtin_ia32_pause();
}

void open_gate() {
    gate.store(0, std::memory_order_seq_cst);
    detail::futex(&gate, detail::FUTEX_WAKE, 0x7fff'ffff);
}

void open_gate_in_child(Heap* self) {
    gate.store(0, std::memory_order_relaxed);
    perform(domain(), {.op = Op::repair_after_fork, .heap = self, .now = now_ms()});
    domain().visitors.store(own_visits, std::memory_order_relaxed);
}

}  // namespace aep
