// Purpose: see peers_elsewhere.hpp.
// Who calls it: see peers_elsewhere.hpp.
// Crash rule: see peers_elsewhere.hpp.
#include "shim/sharing/peers_elsewhere.hpp"

#include "dsm-core/sharing/directory.hpp"
#include "shim/driver/allocator.hpp"

namespace aep {
namespace {

/// Of a node: which of its lives was told of, and up to which of its changes. The thread behind the descriptor looks at it.
struct ToldNode {
    std::atomic<u64> changes{0};
    std::atomic<u32> generation{0};  // 0: none
};

ToldNode nodes[era::POOL_NODES];
ToldPeer* rows = nullptr;  // of each node its clients
u32 rows_nodes = 0, rows_clients = 0;

/// Calls f(node) for each other one that there can be, until it says so.
template <class F>
bool any_other_node(const era::Tables& t, F&& f) {
    for (u32 node = 0; node < t.shape.nodes && node < era::POOL_NODES; ++node)
        if (node != context().era_node && f(node)) return true;
    return false;
}

bool has_changed(const era::Tables& t, u32 node) {
    const NodeSigns now = signs_of(t, node);
    const ToldNode& told = nodes[node];
    return now.generation != told.generation.load(std::memory_order_relaxed) ||
           (now.generation != 0 && now.changes != told.changes.load(std::memory_order_relaxed));
}

/// The node is another one than was told of, or none: all that were told of that one are lost. False: nobody is left of them.
bool tell_lost(ToldPeer* row, PeerEvent& event) {
    for (u32 i = 1; i < rows_clients; ++i)
        if (row[i].tell_lost(event)) return true;
    return false;
}

/// Those who are there have just come.
void begin(u32 node, ToldPeer* row, NodeSigns now) {
    op::LookAtPeer::Reply seen;
    for (u32 i = 1; i < rows_clients; ++i) {
        look_elsewhere(node, i, seen);
        row[i].begin(seen.stays);
    }
    nodes[node].changes.store(now.changes - 1, std::memory_order_relaxed);
    nodes[node].generation.store(now.generation, std::memory_order_relaxed);
}

bool take_event_of(const era::Tables& t, u32 node, bool gone, PeerEvent& event) {
    const NodeSigns now = signs_of(t, node);
    ToldPeer* const row = rows + usize{node} * rows_clients;
    ToldNode& told = nodes[node];
    if (now.generation != told.generation.load(std::memory_order_relaxed)) {
        if (tell_lost(row, event)) return true;
        begin(node, row, now);
    }
    if (!has_changed(t, node) || now.generation == 0) return false;
    // Those of who has gone, then all that there are: who goes in between is told late, and not lost.
    for (u32 i = 1; i < rows_clients; ++i) {
        op::LookAtPeer::Reply seen;
        if (!look_elsewhere(node, i, seen)) continue;
        // Who came and went meanwhile has no id any more: the next who comes there tells how many they were.
        const bool leaves = row[i].is_there() && row[i].stays != seen.stays;
        if ((gone && !leaves) || (!row[i].is_there() && seen.stays % 2 == 0)) continue;
        if (row[i].tell(seen, event)) return true;
    }
    if (!gone) told.changes.store(now.changes, std::memory_order_relaxed);
    return false;
}

}  // namespace

bool follow_elsewhere() {
    const era::Tables t = era_tables();
    if (rows == nullptr || rows_nodes != t.shape.nodes || rows_clients != t.shape.clients) {
        void* const memory =
            allocate_zeroed(usize{t.shape.nodes} * t.shape.clients * sizeof(ToldPeer));
        if (memory == nullptr) return false;
        rows = static_cast<ToldPeer*>(memory);  // another pool's, before a fork, are lost
        rows_nodes = t.shape.nodes;
        rows_clients = t.shape.clients;
    }
    any_other_node(t, [&](u32 node) {
        ToldPeer* const row = rows + usize{node} * rows_clients;
        for (u32 i = 0; i < rows_clients; ++i) row[i] = {};
        nodes[node].generation.store(0, std::memory_order_relaxed);
        return false;
    });
    return true;
}

bool news_elsewhere() {
    const era::Tables t = era_tables();
    return any_other_node(t, [&](u32 node) { return has_changed(t, node); });
}

bool take_event_elsewhere(bool gone, PeerEvent& event) {
    const era::Tables t = era_tables();
    return any_other_node(t, [&](u32 node) { return take_event_of(t, node, gone, event); });
}

}  // namespace aep
