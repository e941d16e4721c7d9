// Purpose: see share_mailbox.hpp.
// Who calls it: see share_mailbox.hpp.
// Crash rule: see share_mailbox.hpp.
#include "shim/sharing/share_mailbox.hpp"

#include "dsm-core/era/mailbox.hpp"
#include "dsm-core/sharing/format.hpp"
#include "shim/sharing/share_operation.hpp"

namespace aep {
namespace {

bool waits_in_a_ring(u32 inbox) {
    const era::Tables t = era_tables();
    const u32 node = context().era_node;
    const u64 own = id_of(inbox, inbox_at(inbox).generation.load()).bits;
    return with_pool_memory([&](auto& memory) {
        const auto is_ours = [&](const era::RemoteMessage& w) { return w.envelope.to == own; };
        return era::each_message_to(memory, t, node, 0, is_ours);
    });
}

}  // namespace

bool a_message_waits(u32 inbox) {
    return inbox_at(inbox).messages.load() != 0 ||
           (shares_between_nodes() && waits_in_a_ring(inbox));
}

}  // namespace aep
