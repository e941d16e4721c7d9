// Purpose: how a node joins, and how any survivor undoes what a dead node left: one pass over the
//          dead node's records, references, messages and chunks.
// Who calls it: a node when it starts; whoever the membership tells that a node is dead.
// Crash rule: the recoverer goes on as the dead node, with its lanes and records, by ordinary
//             transactions. If it dies, the next one finds another state that a dying node leaves.
//             A dead recoverer's recoveries are inherited by whoever recovers it.
//
// The membership must keep a node that it declares dead from the pool (switch it off, close its
// port). The generation in the node's word stops one that comes back between two transactions;
// it cannot stop a store that is already on its way.
#pragma once

#include "dsm-core/era/transaction.hpp"
#include "dsm-core/pool/format.hpp"

namespace aep::era {

/// What only the node's own software can do. Both may be called again for the same thing after a
/// crash, and only while nobody else may use it.
struct Disposal {
    void* context = nullptr;
    /// Frees the memory of an object whose last reference is gone.
    void (*reclaim)(void* context, u32 object) = nullptr;
    /// Makes a dead node's chunk clean. False: living objects are in it, the recoverer keeps it.
    bool (*clean)(void* context, u32 chunk) = nullptr;
    /// Told of what was skipped because no sound node wrote it; null: nobody is.
    void (*damaged)(void* context, const Damage& damage) = nullptr;
};

/// Takes the free node `node` into use: its word from then on, which is what its lanes stand on.
/// {0}: it is not free, or somebody was faster. The caller is the only one of its machine.
template <class Memory>
NodeWord join(Memory& m, const Tables& t, u32 node) {
    const NodeWord old{m.load(t.node(node))};
    const NodeWord live = NodeWord::make(NodeState::live, old.generation() + 1);
    if (old.state() != NodeState::free || !m.cas(t.node(node), old.bits, live.bits)) return {0};
    m.flush(t.node(node));
    m.fence();  // before a lane writes anything that only recovery can undo
    return live;
}

template <class Memory>
class Recovery {
  public:
    /// `mine` is an idle lane of the recovering node; its number says who recovers.
    Recovery(Lane<Memory>& mine, const Disposal& disposal)
        : m(mine.memory()), t(mine.tables()), mine_(mine), disposal_(disposal) {}

    /// Recovers node `dead`, and those whose recovery it had begun. ok, no_node (it is free), busy
    /// (another one is at it; if that one dies, recover that one), fenced, invalid; damaged: all is
    /// undone, but for what no sound node wrote, which was skipped and told of. Everybody else
    /// goes on meanwhile. Cost: one transaction for each reference of the dead node and for each
    /// message, and a look at each of its cells and at each chunk word.
    Status recover(u32 dead) {
        if (dead >= t.shape.nodes || dead == mine_.node()) return Status::invalid;
        if (!mine_.stands()) return Status::fenced;
        const NodeWord found{m.load(t.node(dead))};
        if (found.state() == NodeState::free) return Status::no_node;
        if (!is_mine(found)) {
            // By itself: recover_former(). By none that there is, or no state at all: damage.
            const bool begun = found.state() == NodeState::recovering && is_sound(t, found);
            if ((begun && t.node_of(found.by()) != dead) || !take(dead, found)) return Status::busy;
            if (!is_sound(t, found)) tell("node word", dead, t.node(dead), found.bits);
        }
        inherit();
        return undo_others() ? result_ : Status::fenced;
    }

    /// For recover_former(): recovers the nodes whose recovery ours had begun, then ours, whose
    /// word says that `mine` recovers it.
    Status recover_own() {
        inherit();
        return undo_others() && undo(mine_.node()) ? result_ : Status::fenced;
    }

  private:
    using Writer = Lane<Memory>;

    NodeWord word_of(u32 node) { return {m.load(t.node(node))}; }
    bool is_mine(NodeWord word) const {
        return word.state() == NodeState::recovering && word.by() == mine_.writer();
    }

    bool take(u32 node, NodeWord found) {
        const u64 taken =
            NodeWord::make(NodeState::recovering, found.generation(), mine_.writer()).bits;
        const bool won = m.cas(t.node(node), found.bits, taken);
        m.flush(t.node(node));
        m.fence();  // before the dead node's state changes: it must not be taken for alive
        return won;
    }

    /// Takes over every recovery that a node under our recovery had begun, and so on.
    void inherit() {
        for (bool changed = true; changed;) {
            changed = false;
            for (u32 i = 0; i < t.shape.nodes; ++i) {
                const NodeWord word = word_of(i);
                changed |= word.state() == NodeState::recovering && !is_mine(word) &&
                           is_sound(t, word) && is_mine(word_of(t.node_of(word.by()))) &&
                           take(i, word);
            }
        }
    }

    bool undo_others() {
        for (u32 i = 0; i < t.shape.nodes; ++i)
            if (i != mine_.node() && is_mine(word_of(i)) && !undo(i)) return false;
        return true;
    }

    /// All that node `dead` left. False: we were declared dead ourselves.
    bool undo(u32 dead) {
        const NodeWord standing = word_of(dead);
        const auto reclaim = [this](u32 object) { disposal_.reclaim(disposal_.context, object); };
        for (u32 i = 0; i < t.shape.lanes; ++i) {
            Writer lane(m, t, dead, i, standing);
            if (!lane.settle(reclaim)) {
                const Word& head = t.lane(lane.writer()).redo.head;
                tell("redo record", dead, head, m.load(head));
                lane.retire();
            }
        }
        Writer as(m, t, dead, 0, standing);
        for (u32 i = 0; i < t.shape.refs; ++i)
            if (!clear(as, t.ref(dead, i), {m.load(t.ref(dead, i))})) return false;
        for (u32 other = 0; other < t.shape.nodes; ++other)
            if (other != dead && !clear_rings(as, dead, other)) return false;
        give_back_chunks(dead, standing);
        if (!mine_.stands()) return false;
        m.cas(t.node(dead), standing.bits,
              NodeWord::make(NodeState::free, standing.generation()).bits);
        m.flush(t.node(dead));
        m.fence();
        return true;
    }

    bool clear_rings(Writer& as, u32 dead, u32 other) {
        for (u32 slot = 0; slot < t.shape.slots; ++slot) {
            // To the dead node: all messages, but not a cell that a living sender is filling; the
            // sender looks at the node's word afterwards and takes the message back.
            Word& in = t.message(other, dead, slot);
            const Cell waiting{m.load(in)};
            const bool due = waiting.holds() ? free_or_of(waiting, dead) : !is_sound(t, waiting);
            if (due && !clear(as, in, waiting)) return false;
            // From the dead node: what it was changing; and what it sent to a node that is dead
            // itself, for it cannot look at that node's word any more.
            Word& out = t.message(dead, other, slot);
            const Cell sent{m.load(out)};
            const bool ours = sent.claimer() != NOBODY && free_or_of(sent, dead);
            const bool stranded = sent.holds() && sent.claimer() == NOBODY &&
                                  word_of(other).state() != NodeState::live;
            if ((ours || stranded) && !clear(as, out, sent)) return false;
        }
        return true;
    }

    bool free_or_of(Cell cell, u32 node) const {
        return !t.has_writer(cell.claimer()) || t.node_of(cell.claimer()) == node;
    }

    /// Empties a cell that is the dead node's as long as it is as `found`, which the caller judged:
    /// its sender may take a message back at the same time. False: we were declared dead ourselves.
    bool clear(Writer& as, Word& cell, Cell found) {
        if (found.bits == Cell::empty().bits) return true;
        if (!mine_.stands()) return false;
        const bool sound = is_sound(t, found);
        if (!sound) tell("cell", as.node(), cell, found.bits);
        if (!found.holds() || !t.has_object(found.object())) {
            m.cas(cell, found.bits, Cell::empty().bits);
            m.flush(cell);
            m.fence();  // before the node is free: nobody would look for the claim again
            return true;
        }
        if (!as.claim(cell, found))
            return true;  // a message that its sender took back, or the receiver's recovery
        const Status status = as.drop_claimed(cell, found.object());
        if (status == Status::last) {
            disposal_.reclaim(disposal_.context, found.object());
            as.reclaimed();
        }
        if (status == Status::damaged)
            tell("count of what a cell refers to", as.node(), cell, found.bits);
        return status != Status::fenced;
    }

    void tell(const char* what, u32 node, const Word& word, u64 found) {
        result_ = Status::damaged;
        if (disposal_.damaged != nullptr)
            disposal_.damaged(disposal_.context, {what, node, t.offset_of(word), found});
    }

    void give_back_chunks(u32 dead, NodeWord standing) {
        const u64 owned = ChunkWord::owned(dead, standing.generation()).bits;
        const u64 kept =
            ChunkWord::owned(mine_.node(), NodeWord{word_of(mine_.node())}.generation()).bits;
        for (u32 i = 0; i < t.chunk_count; ++i) {
            if (m.load(t.chunks[i]) == owned) {
                const bool clean = disposal_.clean(disposal_.context, i);
                m.cas(t.chunks[i], owned, clean ? FREE_CHUNK.bits : kept);
                m.flush(t.chunks[i]);
            }
        }
        m.fence();  // before the node is free: nobody would look for its chunks again
    }

    Memory& m;
    const Tables& t;
    Lane<Memory>& mine_;
    const Disposal& disposal_;
    Status result_ = Status::ok;
};

/// Makes node `node` free although no other node is there to recover it: undoes what a former
/// incarnation of the caller's own node left, or what the caller leaves that is about to end, and
/// what it was recovering. The caller is the only one of its machine and knows that no transaction
/// of the node is under way; a node that is recovering ours, as the word says, is dead. ok;
/// damaged; no_node: it is free; fenced: another node recovers it. Repeatable after a crash. Cost:
/// as recover().
template <class Memory>
Status recover_former(Memory& m, const Tables& t, u32 node, const Disposal& disposal) {
    const u32 lane = t.shape.lanes - 1;
    const NodeWord found{m.load(t.node(node))};
    if (found.state() == NodeState::free) return Status::no_node;
    const NodeWord standing =
        NodeWord::make(NodeState::recovering, found.generation(), t.writer(node, lane));
    if (found.bits != standing.bits && !m.cas(t.node(node), found.bits, standing.bits))
        return Status::fenced;
    m.flush(t.node(node));
    m.fence();  // before its state changes: it must not be taken for alive
    Lane<Memory> mine(m, t, node, lane, standing);
    return Recovery<Memory>(mine, disposal).recover_own();
}

}  // namespace aep::era
