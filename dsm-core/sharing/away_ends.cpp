// Purpose: how what crosses nodes ends: references that nobody needs are given up, messages for the
//          dead are dropped, and what a dead slot was in the middle of is put right.
// Who calls it: see away.hpp.
// Crash rule: see away.hpp.
#include "dsm-core/era/lane_recovery.hpp"
#include "dsm-core/sharing/away.hpp"
#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/disposal.hpp"
#include "dsm-core/sharing/transit.hpp"

namespace aep {

namespace {

/// An export of the list that may go now, pinned; of none: there is none.
Pin begin_settle(Caller caller, Lingering& list, u32& looks) {
    Turn turn(caller);
    for (; looks != 0; turn.let_go()) {
        const u32 index = list.first.load();
        if (!is_record(index) || !turn.object(index) || !turn.lingering()) return {};
        if (list.first != index) continue;  // another one took it off
        --looks;
        next_lingering(list);
        Export& e = export_at(index);
        if (e.references != 0) continue;  // somebody received it again
        if (e.pins != 0) continue;        // whoever is at work with it disposes of it
        const bool ours = e.owner != OWNER_ELSEWHERE;
        // Only this node could attach to it again, and nobody of it can any more.
        if (ours && references_elsewhere(e) != 0) {
            if (!dispose(turn, caller.client, index)) return {};  // to the end of the list
            continue;
        }
        e.node_ref = NodeRef::dropping;
        return {caller, index};
    }
    return {};
}

}  // namespace

u32 settle(Lingering& list, Caller caller, u32 limit) {
    if (is_apart()) return 0;
    const era::Tables t = era_tables();
    u32 looks = limit;
    if (const u32 count = list.count.load(std::memory_order_relaxed); count < looks) looks = count;
    u32 settled = 0;
    u32 told = era::NO_NODE;  // that fewer refer to objects of its own
    const auto tell = [&](u32 home) {
        if (told != era::NO_NODE && told != home)
            with_pool_memory([&](auto& memory) { era::ring_doorbell(memory, t, told); });
        told = home;
    };
    for (Pin pin; (pin = begin_settle(caller, list, looks)).index() != NO_RECORD; ++settled) {
        const u32 index = pin.index();
        const u32 object = export_at(index).object - 1;
        const u32 home = object / t.objects_per_node();
        const era::Status status = in_lane(t, caller, [&](auto& lane) {
            const era::Status released = lane.release(object);
            if (released == era::Status::last) lane.reclaimed();
            AEP_AWAY_CRASH_POINT("away: reference given up");
            return released;
        });
        if (status == era::Status::ok && home != context().era_node) tell(home);
        Turn turn(caller);
        LockList locks;
        if (!pin.lock(turn, locks)) return settled;
        if (status == era::Status::fenced) fence_context();
        if (!forget_number(turn, index) || !pin.release(turn)) return settled;
    }
    tell(era::NO_NODE);
    return settled;
}

void tidy_rings(Caller caller, u32 from) {
    if (is_apart()) return;
    const era::Tables t = era_tables();
    const u32 node = context().era_node;
    const auto tidy = [&](const era::RemoteMessage& w) {
        if (is_open(ShareId{w.envelope.to})) {
            with_pool_memory(
                [&](auto& memory) { return era::note_stray(memory, t, w.from, node, w.position); });
            return false;
        }
        const era::Status status = in_lane(t, caller, [&](auto& lane) {
            const era::Status dropped = era::drop_message(lane, w);
            if (dropped == era::Status::last) lane.reclaimed();
            return dropped;
        });
        return status == era::Status::fenced;
    };
    with_pool_memory([&](auto& memory) {
        if (era::each_message_to(memory, t, node, 0, tidy)) return true;
        for (u32 i = 0; i < t.shape.nodes; ++i) {
            const bool wanted = (from >= t.shape.nodes || i == from) && i != node;
            if (wanted && era::was_used(t, i) && era::each_message(memory, t, i, node, true, tidy))
                return true;
        }
        return false;
    });
}

void settle_lanes(u32 slot, u32 pinned) {
    const era::Tables t = era_tables();
    const u32 node = context().era_node;
    for (u32 i = 0; i < lanes_of(t); ++i) {
        if (lane_taken(i).load(std::memory_order_acquire) != slot + 1) continue;
        // Of the node's references, the operation was at this one.
        const u32 number = pinned != NO_RECORD ? export_at(pinned).object - 1 : era::NO_NODE;
        with_pool_memory([&](auto& memory) {
            era::Lane lane(memory, t, node, i, era_standing());
            era::settle_lane(lane, number);
            return 0;
        });
        lane_taken(i).store(0, std::memory_order_release);  // the next one finds it retired
    }
}

namespace {

/// An open() may have claimed a name, or told another one than the client has now.
bool tell_anew(Caller caller, u32 slot) {
    const u32 client = SlotOwner{slot_at(slot).owner.load(std::memory_order_relaxed)}.client();
    if (client != 0 && client <= context().max_clients) {
        Turn turn(caller);
        if (!turn.names() || !turn.client(client)) return false;
        announce(client);
    }
    slot_at(slot).op = number_of<op::FinishAway>();  // all that is left of it
    return true;
}

}  // namespace

op::FinishAway::Reply finish_away(Caller caller, const op::FinishAway& o) {
    if (o.slot >= context().max_slots) return {.status = Status::miss};
    const u32 slot = o.slot;
    if (may_have_told_a_name(slot) && !tell_anew(caller, slot)) return {.status = Status::poisoned};
    const era::Tables t = era_tables();
    const u32 index = pin_of(slot).load();
    if (!is_record(index) || export_at(index).pins.load() == 0) {  // nothing, or not what we wrote
        const Turn turn(caller);
        pin_of(slot) = NO_RECORD;
        return {};
    }
    Pin pin = Pin::of_dead_slot(caller, slot, index);
    Turn turn(caller);
    const u32 object = export_at(index).object.load() - 1;  // as long as it is pinned
    const bool known = object < t.shape.refs && object < t.shape.objects;
    const ObjectFacts facts = known ? facts_of(t, object) : ObjectFacts{};
    LockList locks;
    if (known) add_locks_to_learn(facts, locks);
    // For a group's root; if there are no records it has none.
    if (!turn.clients(0, caller.client)) return {.status = Status::poisoned};
    const bool supplied = supply(turn, caller.client, 1, false) == Status::ok;
    turn.let_go();
    if (!pin.lock(turn, locks)) return {.status = Status::poisoned};
    Export& e = export_at(index);
    if (e.node_ref == NodeRef::taking || e.node_ref == NodeRef::dropping) {
        const bool has =
            known && t.ref(context().era_node, object).load() == era::Cell::of(object).bits;
        if (has) {
            e.node_ref = NodeRef::held;
            if (e.address == 0 && supplied) learn(caller.client, facts, index);
        } else if (!forget_number(turn, index)) {
            return {.status = Status::poisoned};
        }
    }
    if (!pin.release(turn)) return {.status = Status::poisoned};
    return {};
}

}  // namespace aep
