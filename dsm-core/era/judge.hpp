// Purpose: what of the pool's words is believed: the one place where an index, an offset or a
//          number that another node may have written is checked before it leads anywhere.
// Who calls it: transaction.hpp, recovery.hpp, and whoever checks a pool.
// Crash rule: no state; reads only.
//
// Another node's software may be broken or hostile. What it wrote may be wrong, but never leads
// out of the tables, nor to a cell that is no affair of the node whose record names it. Damage is
// skipped, told (Damage), and cleared where recovery comes by.
#pragma once

#include "dsm-core/era/format.hpp"

namespace aep::era {

/// A word that cannot have been written by a sound node.
struct Damage {
    const char* what;  // "reference", "redo record", ...
    u32 node;          // whose it is
    u64 offset;        // in the tables
    u64 found;
};

/// Whether the cell refers to nothing, or to an object that there is, and is claimed by nobody, or
/// by a writer that there is.
inline bool is_sound(const Tables& t, Cell cell) {
    return (!cell.holds() || t.has_object(cell.object())) &&
           (cell.claimer() == NOBODY || t.has_writer(cell.claimer()));
}
inline bool is_sound(const Tables& t, CountWord word) {
    return word.writer() == NOBODY || t.has_writer(word.writer());
}
inline bool is_sound(const Tables& t, NodeWord word) {
    return word.state() == NodeState::recovering ? t.has_writer(word.by())
                                                 : word.state() <= NodeState::live;
}

/// The cell at `offset` of the tables that `node`'s transactions may change: a reference of its own
/// or a message to or from it. Null: there is none.
inline Word* cell_of(const Tables& t, u32 node, u64 offset) {
    const u64 refs = t.at.refs + node * t.at.refs_row;
    if (offset - refs < t.shape.refs * sizeof(Word))
        return offset % sizeof(Word) == 0 ? &t.word_at(offset) : nullptr;
    if (offset < t.at.rings || offset >= t.at.objects) return nullptr;
    const u64 ring = (offset - t.at.rings) / t.at.ring;
    const u64 inside = (offset - t.at.rings) % t.at.ring - 2 * CACHE_LINE;  // wraps: a hint
    const bool is_cell =
        inside < t.shape.slots * sizeof(MessageEntry) && inside % sizeof(MessageEntry) == 0;
    const bool is_its = ring / t.shape.nodes == node || ring % t.shape.nodes == node;
    return is_cell && is_its ? &t.word_at(offset) : nullptr;
}

/// A redo record as it was read: once, and judged.
struct Step {
    RedoKind kind = RedoKind::none;
    u64 era = 0;
    u32 object = 0;
    Word* cell = nullptr;
    Word* to = nullptr;  // of a move
};

/// Reads the record of `writer`, which is a lane of `node`. False: no sound node wrote it.
template <class Memory>
bool read_step(Memory& m, const Tables& t, u32 node, u32 writer, Step& step) {
    const RedoRecord& redo = t.lane(writer).redo;
    const RedoHead head{m.load(redo.head)};
    step = {head.kind(), head.era()};
    if (head.kind() == RedoKind::none) return true;
    const u64 object = m.load(redo.object);
    step.object = static_cast<u32>(object);
    step.cell = cell_of(t, node, m.load(redo.cell));
    step.to = head.kind() == RedoKind::move ? cell_of(t, node, m.load(redo.to)) : step.cell;
    return head.kind() <= RedoKind::move && t.has_object(object) && step.cell != nullptr &&
           step.to != nullptr;
}

/// Calls visit(Damage) for every damaged word of the nodes that ever took part. They may be at work
/// meanwhile. Cost: a look at each of their words.
template <class Memory, class Visit>
void each_damage(Memory& m, const Tables& t, Visit&& visit) {
    const auto took_part = [&](u32 node) { return m.load(t.node(node)) != 0; };
    const auto judge = [&](const char* what, u32 node, const Word& word, auto kind) {
        const decltype(kind) found{m.load(word)};
        if (!is_sound(t, found)) visit(Damage{what, node, t.offset_of(word), found.bits});
    };
    for (u32 node = 0; node < t.shape.nodes; ++node) {
        if (!took_part(node)) continue;
        judge("node word", node, t.node(node), NodeWord{});
        for (u32 i = 0; i < t.shape.lanes; ++i) {
            const u32 writer = t.writer(node, i);
            if (Step step; !read_step(m, t, node, writer, step)) {
                const Word& head = t.lane(writer).redo.head;
                visit(Damage{"redo record", node, t.offset_of(head), m.load(head)});
            }
        }
        for (u32 i = 0; i < t.shape.refs; ++i) judge("reference", node, t.ref(node, i), Cell{});
        for (u32 to = 0; to < t.shape.nodes; ++to)
            for (u32 i = 0; to != node && took_part(to) && i < t.shape.slots; ++i)
                judge("message", node, t.message(node, to, i), Cell{});
        for (u32 i = 0; i < t.objects_per_node(); ++i)
            judge("count", node, t.count(t.first_object(node) + i), CountWord{});
    }
}

}  // namespace aep::era
