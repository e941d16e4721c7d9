// Purpose: see transact.hpp.
// Who calls it: see transact.hpp.
// Crash rule: see transact.hpp.
#include "shim/driver/transact.hpp"

#include "shim/driver/background.hpp"
#include "shim/driver/heap_turn.hpp"
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

// seq_cst in both: fork closes the gate first and looks at the counters second; we do it the other
// way round.
void enter(Heap* h) {
    if (h != nullptr) return begin_turn(h);
    domain().visitors.fetch_add(1, std::memory_order_seq_cst);
}

void leave(Heap* h) {
    if (h != nullptr) return end_turn(h);
    domain().visitors.fetch_sub(1, std::memory_order_release);
}

}  // namespace

namespace detail {

Turn::Turn(Heap* h) : h_(h) {
    if (h == nullptr) ++own_visits;
    enter(h);
    while (AEP_UNLIKELY(gate.load(std::memory_order_seq_cst) != 0)) {
        leave(h);
        while (gate.load(std::memory_order_acquire) != 0) futex(&gate, FUTEX_WAIT, 1);
        enter(h);
    }
}

Turn::~Turn() {
    leave(h_);
    if (h_ == nullptr) --own_visits;
}

VisitorsTurn::VisitorsTurn(Heap* h)
    : h_(h),
      entered_(try_begin_turn(h)),
      may_(entered_ && gate.load(std::memory_order_seq_cst) == 0) {}

VisitorsTurn::~VisitorsTurn() {
    if (!entered_) return;
    end_turn(h_);
    // Its own thread may have come meanwhile.
    futex(&h_->sequence, FUTEX_WAKE, 0x7fff'ffff);
}

void require_sound(u32 number, const Touched& touched) {
    if (CheckReport report; !check_touched(domain(), touched, report)) {
        fatal("broken invariant after operation ", name_of(number), ": ", report.broken, "; ",
              report.kind, " ", Hex{report.object}, ", found ", Hex{report.found}, ", expected ",
              Hex{report.expected});
    }
}

void after_operation(uptr twice_freed) {
    background_notice(domain().arena.next_purge());
    if (AEP_UNLIKELY(twice_freed != 0)) report_bad_free(twice_freed, BadFree::twice);
}

}  // namespace detail

void leave_operations(Heap* own) {
    if (own != nullptr && (own->sequence.load(std::memory_order_relaxed) & 1) != 0)
        own->sequence.fetch_add(1, std::memory_order_release);
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
    // No other thread is there, and no gate: the child's heap is in no context.
    perform(domain(), op::RepairAfterFork{.heap = self, .now = now_ms()});
    domain().visitors.store(own_visits, std::memory_order_relaxed);
}

}  // namespace aep
