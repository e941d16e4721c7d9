// Purpose: messages from node to node: each carries a reference of its own.
// Who calls it: a node for its clients.
// Crash rule: a message is a cell like any other. Until the sender's transaction commits it is not
//             there, afterwards it is; until the receiver's record is durable it is the ring's,
//             afterwards the receiver's. A dead node's recovery drops what it was to receive.
#pragma once

#include "dsm-core/era/transaction.hpp"

namespace aep::era {

/// Sends `object`, to which the caller holds a reference and keeps it, to node `to`. full,
/// no_node, gone, too_many, invalid, fenced. last: the receiver died, and the message taken back
/// was the object's last reference (see Lane::release). Safe from any number of lanes of a
/// node; in order if one lane sends and one receives, and neither node dies. Cost: as attach.
template <class Memory>
Status send(Lane<Memory>& lane, u32 to, u32 object) {
    const Tables& t = lane.tables();
    Memory& m = lane.memory();
    const u32 from = lane.node();
    if (to >= t.shape.nodes || to == from || object >= t.shape.objects) {
        return Status::invalid;
    }
    if (!lane.stands()) {
        return Status::fenced;
    }
    const auto receiver_lives = [&] {
        return NodeWord{m.load(t.node(to))}.state() == NodeState::live;
    };
    if (!receiver_lives()) {
        return Status::no_node;
    }
    const u64 tail = m.load(t.tail(from, to));
    for (u32 i = 0; i < t.shape.slots; ++i) {
        const u32 slot = static_cast<u32>((tail + i) % t.shape.slots);
        Word& cell = t.message(from, to, slot);
        if (m.load(cell) != Cell::empty().bits || !lane.claim(cell, Cell::empty())) {
            continue;
        }
        const Status status = lane.attach_claimed(cell, object, false);
        if (status != Status::ok) {
            return status;
        }
        m.store(t.tail(from, to), (slot + 1) % t.shape.slots);
        // The receiver may have been declared dead meanwhile, and its recovery have passed this
        // cell already. Then the message is ours again, unless recovery or its heir has it.
        if (receiver_lives()) {
            return Status::ok;
        }
        const Cell left{m.load(cell)};
        if (!left.holds() || left.claimer() != NOBODY || !lane.claim(cell, left)) {
            return Status::no_node;
        }
        const Status dropped = lane.drop_claimed(cell, left.object());
        return dropped == Status::ok ? Status::no_node : dropped;
    }
    return Status::full;
}

/// Takes the next message of node `from` into the node's `ref`; `object` is what it refers to.
/// empty, busy (the reference is in use), invalid, fenced. Safe from any number of lanes.
/// Cost: 4 fences.
template <class Memory>
Status receive(Lane<Memory>& lane, u32 from, u32 ref, u32& object) {
    const Tables& t = lane.tables();
    Memory& m = lane.memory();
    const u32 to = lane.node();
    if (from >= t.shape.nodes || from == to || ref >= t.shape.refs) {
        return Status::invalid;
    }
    if (!lane.stands()) {
        return Status::fenced;
    }
    Word& target = t.ref(to, ref);
    if (!lane.claim(target, Cell::empty())) {
        return Status::busy;
    }
    const u64 head = m.load(t.head(from, to));
    for (u32 i = 0; i < t.shape.slots; ++i) {
        const u32 slot = static_cast<u32>((head + i) % t.shape.slots);
        Word& cell = t.message(from, to, slot);
        const Cell found{m.load(cell)};
        if (!found.holds() || found.claimer() != NOBODY || !lane.claim(cell, found)) {
            continue;
        }
        lane.move_claimed(cell, target, found.object());
        m.store(t.head(from, to), (slot + 1) % t.shape.slots);
        object = found.object();
        return Status::ok;
    }
    lane.unclaim(target);
    return Status::empty;
}

}  // namespace aep::era
