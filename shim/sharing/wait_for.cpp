// Purpose: see wait_for.hpp.
// Who calls it: see wait_for.hpp.
// Crash rule: see wait_for.hpp.
#include "shim/sharing/wait_for.hpp"

namespace aep {
namespace {

/// Gives up references that the node holds and nobody of it needs.
void settle_visiting() {
    if (sharing().visiting.count.load(std::memory_order_relaxed) != 0)
        share_with_records(op::Settle{});
}

/// So often a sleeper naps before it attempts again although nothing that it looks at has changed: that a peer on another
/// node can be reached no more changes nothing here.
constexpr u32 NAPS_AN_ATTEMPT = 16;

}  // namespace

long nap(const Awaited& on, u32 seen, u64 beyond, u64 deadline, Naps& naps) {
    settle_visiting();
    for (u32 i = 0; i < NAPS_AN_ATTEMPT; ++i) {
        const u64 now = now_ns();
        const u64 end = now + naps.next(now);
        const bool last = deadline != 0 && deadline <= end;
        const long result = sleep_while(on.sequence, seen, last ? deadline : end);
        if (result != -ETIMEDOUT || last) return result;
        if (on.beyond(on.node) != beyond) break;
    }
    return 0;
}

}  // namespace aep
