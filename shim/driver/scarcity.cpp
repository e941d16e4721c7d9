// Purpose: see scarcity.hpp.
// Who calls it: see scarcity.hpp.
// Crash rule: see scarcity.hpp.
#include "shim/driver/scarcity.hpp"

#include "shim/driver/slow_path.hpp"

namespace aep {
namespace {

/// A thread takes a page of its own when it has borrowed a page's this part.
constexpr usize PAGE_PART = 4;

std::atomic<bool> memory_is_scarce{false};

struct Debt {
    usize bytes;   // borrowed since the thread last took a page
    bool refused;  // its own heap, the last time that it wanted one
};
__thread Debt debt __attribute__((tls_model("initial-exec"))) = {};

}  // namespace

void note_scarcity(bool scarce) { memory_is_scarce.store(scarce, std::memory_order_relaxed); }

bool may_take_page(const Heap* h, u32 c) {
    const Heap* own = current_heap();
    if (h != own) return own == nullptr || debt.refused;
    const usize page = usize{page_slices(c)} << SLICE_SHIFT;
    debt.refused =
        memory_is_scarce.load(std::memory_order_relaxed) && debt.bytes < page / PAGE_PART;
    return !debt.refused;
}

void note_page_taken() { debt.bytes = 0; }

void note_borrowed(u32 c) { debt.bytes += class_size(c); }

}  // namespace aep
