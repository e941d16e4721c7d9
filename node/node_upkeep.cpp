// Purpose: see node_upkeep.hpp.
// Who calls it: see node_upkeep.hpp.
// Crash rule: see node_upkeep.hpp.
#include "node/node_upkeep.hpp"

#include "dsm-core/sharing/share_ops.hpp"
#include "node/draining.hpp"
#include "node/kept_chunks.hpp"
#include "node/process_facts.hpp"

namespace aep {

void NodeUpkeep::look_after(u64 now_ms, Sweep& done) {
    Membership* const membership = member_.membership();
    if (membership == nullptr) return;
    if (!membership->stands()) {
        if (fence_context()) {
            log_(LogLevel::error,
                 "other nodes have declared this one dead: its clients can share nothing any more "
                 "and take no more memory from the pool; end them and take the context down");
        }
        return;
    }
    set_apart(!membership->has_quorum());
    done.nodes_recovered = membership->beat_and_recover(now_ms);
    if (settle_lingering()) done.busy = true;
    done.chunks_returned += free_kept_chunks(pool_, cache_);
    done.drained = drain(membership->tables(), membership->node());
}

/// How far the node is on its way out of the pool. True: nothing keeps it.
bool NodeUpkeep::drain(const era::Tables& tables, u32 node) {
    if (!draining_of(tables, node).wished) return false;
    u64 clients = 0;
    for (u32 i = 1; i <= context().max_clients; ++i)
        clients += client_at(i).state.load() != static_cast<u32>(ClientState::free);
    return tell_draining(tables, node, clients, sharing().deferred.count.load());
}

/// Before anybody else may act, our clients share nothing with other nodes any more.
void NodeUpkeep::set_apart(bool apart) {
    // release: the operations that begin now see it.
    const bool was = context().apart.exchange(apart ? 1 : 0, std::memory_order_release) != 0;
    if (was == apart) return;
    if (apart) {
        log_(LogLevel::error,
             "no quorum: clients share nothing with other nodes until there is; within the node "
             "they go on");
    } else {
        log_(LogLevel::info, "quorum: clients share with other nodes");
    }
}

/// Whose ring is looked at whole after that of node `ring_`: one a sweep, so that nodes that do not
/// talk cost no more by being many.
u32 NodeUpkeep::next_ring() const {
    const era::Tables& t = member_.membership()->tables();
    const u32 own = member_.membership()->node();
    for (u32 i = 1; i <= t.shape.nodes; ++i) {
        const u32 node = (ring_ + i) % t.shape.nodes;
        if (node != own && era::was_used(t, node)) return node;
    }
    return own;  // there is none
}

/// What lingers is settled a few at a time, as long as some goes. Whether the next sweep is to ask
/// again: a former operation is under way, or there is more. (In a poisoned context there is not.)
bool NodeUpkeep::settle_lingering() {
    const u64 end = monotonic_ns() + LONGEST_SHARE_OF_SWEEP_NS;
    op::Settle::Reply reply;
    Performed performed = host_slot_.perform_for(0, op::Tidy{.from = ring_}, reply);
    // Not before: with each answer of a completer there is a sweep, which asks for the same.
    if (performed == Performed::done) ring_ = next_ring();
    while (performed == Performed::done && reply.given_up != 0 && monotonic_ns() < end)
        performed = host_slot_.perform_for(0, op::Settle{}, reply);
    return performed == Performed::pending ||
           (performed == Performed::done && reply.status == Status::ok);
}

}  // namespace aep
