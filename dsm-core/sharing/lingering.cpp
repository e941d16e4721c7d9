// Purpose: see lingering.hpp.
// Who calls it: share_ops.cpp.
// Crash rule: see lingering.hpp.
#include "dsm-core/sharing/lingering.hpp"
#include "dsm-core/era/mailbox.hpp"

#include "dsm-core/sharing/away.hpp"
#include "dsm-core/sharing/format.hpp"

namespace aep {
namespace {

/// Exports that one operation looks at: its caller waits for that.
constexpr u32 SETTLE_STEP = 16;

/// So much of other nodes' objects lingers while these wait for nothing: what comes again costs
/// less then, and they are told of several at once. The rest goes when a client waits, or with the
/// daemon's next sweep.
constexpr u32 MOST_VISITING = 256;
constexpr u64 MOST_VISITING_BYTES = MiB;

/// Tells other nodes whether this one waits for objects of its own that they have. A hint: one that
/// is late costs time, a sweep at most.
void say_whether_we_wait() {
    const bool waits = sharing().deferred.count.load(std::memory_order_relaxed) != 0;
    with_pool_memory([&](auto& memory) {
        era::change_bits(memory, era_tables().waiting(), u64{1} << context().era_node, waits);
        return 0;
    });
}

/// Whether one of them does.
bool others_wait() {
    const era::Tables t = era_tables();
    return with_pool_memory([&](auto& memory) {
        u64 others = memory.load(t.waiting()) & t.all_nodes() & ~(u64{1} << context().era_node);
        for (; others != 0; others &= others - 1)  // the dead wait for nothing
            if (era::is_live(t, static_cast<u32>(__builtin_ctzll(others)))) return true;
        return false;
    });
}

}  // namespace

op::Settle::Reply give_up_lingering(Caller caller, bool visitors) {
    if (!shares_between_nodes()) return {.status = Status::miss};
    ShareHeader& s = sharing();
    u32 settled = settle(s.deferred, caller, SETTLE_STEP);
    if (visitors) settled += settle(s.visiting, caller, SETTLE_STEP);
    say_whether_we_wait();
    const bool more = s.deferred.count.load(std::memory_order_relaxed) != 0 ||
                      s.visiting.count.load(std::memory_order_relaxed) != 0;
    return {.status = more ? Status::ok : Status::miss, .given_up = settled};
}

void after_drop(Caller caller, u32 waited_before) {
    ShareHeader& s = sharing();
    if (s.deferred.count.load(std::memory_order_relaxed) > waited_before) {
        settle(s.deferred, caller, SETTLE_STEP);
        say_whether_we_wait();
    }
    const u32 visiting = s.visiting.count.load(std::memory_order_relaxed);
    if (visiting == 0) return;
    if (visiting > MOST_VISITING ||
        s.visiting.bytes.load(std::memory_order_relaxed) > MOST_VISITING_BYTES || others_wait())
        settle(s.visiting, caller, SETTLE_STEP);
}

}  // namespace aep
