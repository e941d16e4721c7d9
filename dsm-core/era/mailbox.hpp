// Purpose: messages from node to node: each carries a reference of its own.
// Who calls it: a node for its clients.
// Crash rule: a message is a cell like any other. Until the sender's transaction commits it is not
//             there, afterwards it is; until the receiver's record is durable it is the ring's,
//             afterwards the receiver's. A dead node's recovery drops what it was to receive.
//
// What two at once may see, of one ring.
//
//   send | send                  different cells; in either order
//   send | take, drop            found as a whole (it is there when its count is), or by the next look
//   take, drop | take, drop      one has the message, the other is told `gone`
//   claim_message | the cell used again   the envelope is compared under the claim: not mistaken
//   send | the receiver's death  taken back by the sender (no_node), or dropped by recovery
//   take | the sender's death    the receiver's: what was committed stays
//   head, tail | all             hints, which only grow: a wrong one costs looks or order
//   mail | all                   a hint: of a ring that is not empty by the others the bit is set, or
//                                whoever moved the tail is about to set it
#pragma once

#include "dsm-core/base/label.hpp"
#include "dsm-core/era/transaction.hpp"

namespace aep::era {

/// For whom a message is and by whom, as the layers above name clients, and what the sender says of it.
struct Envelope {
    u64 to = 0;
    u64 from = 0;
    Label label{};
};

/// A message that lies in a ring of this node. Somebody else may take it first.
struct RemoteMessage {
    u32 from;  // node
    u64 position;
    u32 object;
    Envelope envelope;
};

/// Says that objects of `node` have lost references. One try: if somebody else was faster, the word
/// has changed after what we did.
template <class Memory>
void ring_doorbell(Memory& m, const Tables& t, u32 node) {
    Word& bell = t.entry(node).doorbell;
    const u64 now = m.load(bell);
    m.cas(bell, now, now + 1);
}

/// Moves a hint forward, never back.
template <class Memory>
void advance(Memory& m, Word& hint, u64 position) {
    for (u64 now = m.load(hint); now < position && !m.cas(hint, now, position);) now = m.load(hint);
}

/// Sets or clears the bits of a word that others change at the same time.
template <class Memory>
void change_bits(Memory& m, Word& word, u64 bits, bool set) {
    for (;;) {
        const u64 now = m.load(word);
        const u64 wanted = set ? now | bits : now & ~bits;
        if (wanted == now || m.cas(word, now, wanted)) return;
    }
}

/// Tells node `to` to look into the ring of node `from`, after the tail was moved.
template <class Memory>
void tell_mail(Memory& m, const Tables& t, u32 from, u32 to) {
    change_bits(m, t.entry(to).mail, u64{1} << from, true);
}

/// Corrects the hints if they do not tell of the message in that slot: a sender died before it did.
/// True: the tail did not.
template <class Memory>
bool note_stray(Memory& m, const Tables& t, u32 from, u32 to, u64 position) {
    const u64 slots = t.shape.slots;
    const u64 head = m.load(t.head(from, to));
    // Where the receiver looks next in that slot.
    if (position < head) position += (head - position + slots - 1) / slots * slots;
    Word& tail = t.tail(from, to);
    const bool stray = position >= m.load(tail);
    if (stray) advance(m, tail, position + 1);
    tell_mail(m, t, from, to);
    return stray;
}

/// Where the oldest message may be, as far as the hints go: no more than all slots before `tail`.
template <class Memory>
u64 oldest(Memory& m, const Tables& t, u32 from, u32 to, u64 tail) {
    const u64 head = m.load(t.head(from, to));
    return head < tail && tail - head > t.shape.slots ? tail - t.shape.slots : head;
}

/// Sends `object`, to which the caller holds a reference and keeps it, to node `to`. full,
/// no_node, gone, too_many, invalid, fenced. last: the receiver died, and the message taken back
/// was the object's last reference (see Lane::release). Safe from any number of lanes of a
/// node; in order if one lane sends and one receives, and neither node dies. Cost: as attach.
template <class Memory>
Status send(Lane<Memory>& lane, u32 to, u32 object, Envelope envelope = {}) {
    const Tables& t = lane.tables();
    Memory& m = lane.memory();
    const u32 from = lane.node();
    if (to >= t.shape.nodes || to == from || object >= t.shape.objects) return Status::invalid;
    if (!lane.stands()) return Status::fenced;
    const auto receiver_lives = [&] {
        return NodeWord{m.load(t.node(to))}.state() == NodeState::live;
    };
    if (!receiver_lives()) return Status::no_node;
    const u64 tail = m.load(t.tail(from, to));
    for (u32 i = 0; i < t.shape.slots; ++i) {
        MessageEntry& entry =
            t.message_entry(from, to, static_cast<u32>((tail + i) % t.shape.slots));
        Word& cell = entry.cell;
        if (m.load(cell) != Cell::empty().bits || !lane.claim(cell, Cell::empty())) continue;
        // On the cell's line, and so in the pool with the claim, before the message is there.
        m.store(entry.to, envelope.to);
        m.store(entry.from, envelope.from);
        m.store(entry.tag, envelope.label.tag);
        m.store(entry.type, envelope.label.type);
        m.store(entry.version, envelope.label.version);
        const Status status = lane.attach_claimed(cell, object, false);
        if (status != Status::ok) return status;
        if (m.load(t.tail(from, to)) == tail) {
            advance(m, t.tail(from, to), tail + i + 1);
        } else {
            // Others have sent meanwhile; what lay in this slot before may have been passed.
            note_stray(m, t, from, to, tail + i);
        }
        tell_mail(m, t, from, to);
        // The receiver may have been declared dead meanwhile, and its recovery have passed this
        // cell already. Then the message is ours again, unless recovery or its heir has it.
        if (receiver_lives()) return Status::ok;
        const Cell left{m.load(cell)};
        if (!left.holds() || left.claimer() != NOBODY || !lane.claim(cell, left))
            return Status::no_node;
        const Status dropped = lane.drop_claimed(cell, left.object());
        return dropped == Status::ok ? Status::no_node : dropped;
    }
    return Status::full;
}

/// Calls visit(const RemoteMessage&) for the messages from node `from` to node `to`, the oldest first,
/// until it returns true. Between the hints; `all`: everywhere, what a dead sender's hint does not
/// tell of, too. Cost: a look at each cell; no flush.
template <class Memory, class Visit>
bool each_message(Memory& m, const Tables& t, u32 from, u32 to, bool all, Visit&& visit) {
    const u64 slots = t.shape.slots;
    const u64 tail = m.load(t.tail(from, to));
    u64 position = oldest(m, t, from, to, tail);
    const u64 end = all ? position + slots : tail;  // each slot once
    for (; position < end; ++position) {
        const MessageEntry& entry = t.message_entry(from, to, static_cast<u32>(position % slots));
        const Cell found{m.load(entry.cell)};
        if (!found.holds() || found.claimer() != NOBODY) continue;
        const Label label{m.load(entry.tag), m.load(entry.type),
                          static_cast<u32>(m.load(entry.version))};
        if (visit(RemoteMessage{
                from, position, found.object(), {m.load(entry.to), m.load(entry.from), label}}))
            return true;
    }
    return false;
}

/// Whether a message for `receiver` (Envelope::to) may be sent. Whoever does not receive may have
/// as much of the ring as it leaves free, so it never fills it for the others: dynamic thresholds
/// (Choudhury and Hahne, IEEE/ACM Transactions on Networking 6, 1998). By hints, and others send
/// meanwhile: some more may come in. `head_seen` is the caller's for each ring, at first 0: the
/// receiver's line is read only when half a ring was sent since. Cost: one load; when more than
/// half of the ring may be full, a look at each cell.
template <class Memory>
bool has_room(Memory& m, const Tables& t, u32 from, u32 to, u64 receiver,
              std::atomic<u64>& head_seen) {
    const u64 slots = t.shape.slots;
    const u64 tail = m.load(t.tail(from, to));
    const auto is_half_empty = [&] {
        return head_seen.load(std::memory_order_relaxed) + slots / 2 > tail;
    };
    if (is_half_empty()) return true;
    head_seen.store(oldest(m, t, from, to, tail), std::memory_order_relaxed);
    if (is_half_empty()) return true;
    u64 taken = 0;
    u64 of_receiver = 0;
    each_message(m, t, from, to, false, [&](const RemoteMessage& w) {
        ++taken;
        of_receiver += w.envelope.to == receiver;
        return false;
    });
    return of_receiver < slots - taken;
}

/// Node `to` looks into an empty ring no more until something comes.
template <class Memory>
void forget_mail(Memory& m, const Tables& t, u32 from, u32 to) {
    const auto is_empty = [&] {
        const u64 tail = m.load(t.tail(from, to));
        return oldest(m, t, from, to, tail) >= tail;
    };
    if (!is_empty()) return;
    change_bits(m, t.entry(to).mail, u64{1} << from, false);
    // A sender that found the bit set had moved the tail before: one of us sees the other.
    if (!is_empty()) tell_mail(m, t, from, to);
}

/// each_message(), between the hints, for what other nodes sent to node `to`, beginning with node
/// `first`, whichever number that is. Cost: a load, and a look at each ring that had something in
/// it: nothing for nodes that do not talk.
template <class Memory, class Visit>
bool each_message_to(Memory& m, const Tables& t, u32 to, u32 first, Visit&& visit) {
    const u64 mail = m.load(t.entry(to).mail) & t.all_nodes() & ~(u64{1} << to);
    const u64 before = (u64{1} << first % t.shape.nodes) - 1;
    for (u64 part : {mail & ~before, mail & before}) {
        for (; part != 0; part &= part - 1) {
            const u32 from = static_cast<u32>(__builtin_ctzll(part));
            if (each_message(m, t, from, to, false, visit)) return true;
            forget_mail(m, t, from, to);
        }
    }
    return false;
}

/// Makes a message ours to take. False: it is another one by now, or somebody else is at it.
template <class Memory>
bool claim_message(Lane<Memory>& lane, const RemoteMessage& w, MessageEntry& entry) {
    Memory& m = lane.memory();
    const Cell found = Cell::of(w.object);
    if (!lane.claim(entry.cell, found)) return false;
    // The cell may have been used again for the same object.
    if (m.load(entry.to) == w.envelope.to && m.load(entry.from) == w.envelope.from) return true;
    lane.unclaim(entry.cell, found);
    return false;
}

/// A message is gone: the oldest one may be a later one now. Never beyond `tail`: a sender that has
/// not moved it yet may still choose a slot there.
template <class Memory>
void pass_taken(Lane<Memory>& lane, u32 from) {
    const Tables& t = lane.tables();
    Memory& m = lane.memory();
    const u32 to = lane.node();
    const u64 tail = m.load(t.tail(from, to));
    const auto is_empty = [&](u64 position) {
        const u32 slot = static_cast<u32>(position % t.shape.slots);
        return m.load(t.message(from, to, slot)) == Cell::empty().bits;
    };
    const u64 first = oldest(m, t, from, to, tail);
    u64 position = first;
    while (position < tail && is_empty(position)) ++position;
    if (position == first) return;
    advance(m, t.head(from, to), position);
    // Another sender, which read the hint long ago, may have filled such a slot meanwhile: either
    // it sees the new head, or we its message.
    while (position-- != first)
        if (!is_empty(position)) note_stray(m, t, from, to, position);
}

/// Takes a message into the node's reference `ref`. gone: somebody else has it; busy (the reference
/// is in use), invalid, fenced. Safe from any number of lanes. Cost: 4 fences.
template <class Memory>
Status take_message(Lane<Memory>& lane, const RemoteMessage& w, u32 ref) {
    const Tables& t = lane.tables();
    const u32 to = lane.node();
    if (ref >= t.shape.refs || w.from >= t.shape.nodes || w.from == to) return Status::invalid;
    if (!lane.stands()) return Status::fenced;
    Word& target = t.ref(to, ref);
    if (!lane.claim(target, Cell::empty())) return Status::busy;
    MessageEntry& entry = t.message_entry(w.from, to, static_cast<u32>(w.position % t.shape.slots));
    if (!claim_message(lane, w, entry)) {
        lane.unclaim(target, Cell::empty());
        return Status::gone;
    }
    lane.move_claimed(entry.cell, target, w.object);
    pass_taken(lane, w.from);
    return Status::ok;
}

/// Drops a message and its reference. ok, or last (see Lane::release); gone: somebody else has it;
/// invalid, fenced. Cost: as Lane::release.
template <class Memory>
Status drop_message(Lane<Memory>& lane, const RemoteMessage& w) {
    const Tables& t = lane.tables();
    const u32 to = lane.node();
    if (w.from >= t.shape.nodes || w.from == to) return Status::invalid;
    if (!lane.stands()) return Status::fenced;
    MessageEntry& entry = t.message_entry(w.from, to, static_cast<u32>(w.position % t.shape.slots));
    if (!claim_message(lane, w, entry)) return Status::gone;
    const Status status = lane.drop_claimed(entry.cell, w.object);
    pass_taken(lane, w.from);
    return status;
}

/// Takes the next message of node `from` into the node's `ref`; `object` is what it refers to.
/// empty, busy (the reference is in use), invalid, fenced. Safe from any number of lanes.
template <class Memory>
Status receive(Lane<Memory>& lane, u32 from, u32 ref, u32& object) {
    const Tables& t = lane.tables();
    if (from >= t.shape.nodes || from == lane.node() || ref >= t.shape.refs) return Status::invalid;
    if (!lane.stands()) return Status::fenced;
    if (lane.memory().load(t.ref(lane.node(), ref)) != Cell::empty().bits) return Status::busy;
    Status status = Status::empty;
    const auto take = [&](const RemoteMessage& w) {
        const Status taken = take_message(lane, w, ref);
        if (taken == Status::gone) return false;
        status = taken;
        object = w.object;
        return true;
    };
    if (!each_message(lane.memory(), t, from, lane.node(), false, take))
        each_message(lane.memory(), t, from, lane.node(), true, take);
    return status;
}

}  // namespace aep::era
