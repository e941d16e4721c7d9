// Purpose: ends what one lane of a living node was in the middle of when the thread in it died.
// Who calls it: the node itself, for its own dead clients, when nobody completes their operations.
// Crash rule: repeatable: each step leaves what a thread could leave that dies in the lane.
//
// The node lives, so memory has every store of the dead thread, and nothing is lost with a cache.
#pragma once

#include "dsm-core/era/transaction.hpp"

namespace aep::era {

/// Ends the lane's transaction if it has committed, else takes it back; then the claims that no
/// record tells of. `object`: whose reference of the node it may have claimed; NO_NODE: none.
/// fenced: the node was declared dead, and others do all of this. The lane is nobody's but the
/// caller's. Cost: a look at each cell of the node's rings.
template <class Memory>
Status settle_lane(Lane<Memory>& lane, u32 object) {
    const Tables& t = lane.tables();
    Memory& m = lane.memory();
    const u32 node = lane.node();
    if (!lane.stands()) return Status::fenced;
    // An object's memory is its chunk's business. A record that no operation wrote tells nothing.
    if (!lane.settle([](u32) {})) lane.retire();
    const auto release = [&](Word& word) {
        const Cell found{m.load(word)};
        if (found.claimer() == lane.writer())
            lane.unclaim(word, found.holds() ? Cell::of(found.object()) : Cell::empty());
    };
    if (object < t.shape.refs) release(t.ref(node, object));
    for (u32 other = 0; other < t.shape.nodes; ++other) {
        if (other == node || m.load(t.node(other)) == 0)
            continue;  // ours, or one that never took part
        const bool lives = NodeWord{m.load(t.node(other))}.state() == NodeState::live;
        for (u32 slot = 0; slot < t.shape.slots; ++slot) {
            release(t.message(other, node, slot));
            Word& sent = t.message(node, other, slot);
            release(sent);
            // A sender looks whether the receiver lives when its message lies there; this one
            // cannot any more.
            const Cell left{m.load(sent)};
            if (lives || !left.holds() || left.claimer() != NOBODY || !lane.claim(sent, left))
                continue;
            if (lane.drop_claimed(sent, left.object()) == Status::last) lane.reclaimed();
        }
    }
    return Status::ok;
}

}  // namespace aep::era
