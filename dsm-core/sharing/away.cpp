// Purpose: see away.hpp.
// Who calls it: see away.hpp.
// Crash rule: see away.hpp.
#include "dsm-core/sharing/away.hpp"

#include "dsm-core/era/mailbox.hpp"
#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/group_ops.hpp"
#include "dsm-core/sharing/records.hpp"

namespace aep {
namespace {

/// One of the node's lanes for a scope; the last one is the host's. Nobody holds one for longer
/// than a transaction takes; a client that is killed in it is completed.
class LaneTurn {
  public:
    LaneTurn(const era::Tables& t, u32 client) {
        const u32 lanes = (t.shape.lanes < MAX_LANES ? t.shape.lanes : MAX_LANES) - 1;
        for (u32 i = client;; ++i) {
            std::atomic<u32>& taken = lane_taken(i % lanes);
            u32 nobody = 0;
            // acquire: its former user has retired the lane's record.
            if (taken.load(std::memory_order_relaxed) == 0 &&
                taken.compare_exchange_strong(nobody, client + 1, std::memory_order_acquire)) {
                lane = i % lanes;
                return;
            }
            __builtin_ia32_pause();
        }
    }
    ~LaneTurn() { lane_taken(lane).store(0, std::memory_order_release); }
    LaneTurn(const LaneTurn&) = delete;
    LaneTurn& operator=(const LaneTurn&) = delete;

    u32 lane = 0;
};

/// Calls f(lane) in a transaction lane of the node.
template <class F>
era::Status in_lane(const era::Tables& t, u32 client, F&& f) {
    const LaneTurn turn(t, client);
    return with_pool_memory([&](auto& memory) {
        era::Lane lane(memory, t, context().era_node, turn.lane, era_standing());
        return f(lane);
    });
}

Status status_of(era::Status status) {
    switch (status) {
        case era::Status::ok:
            return Status::ok;
        case era::Status::fenced:
            fence_context();
            return Status::fenced;
        case era::Status::full:
            return Status::full;
        case era::Status::too_many:
            return Status::limit;
        default:
            return Status::gone;
    }
}

/// A number for an object of this node's; era::NO_NODE: all are in use.
u32 free_number(const era::Tables& t) {
    ShareHeader& s = sharing();
    const u32 first = t.first_object(context().era_node);
    const u32 count = t.objects_per_node();
    for (u32 i = 0; i < count; ++i) {
        const u32 object = first + (s.next_object + i) % count;
        // Objects of a former life of this node may live on, held by others.
        if (export_of_object(object) == NO_RECORD && !era::is_living(t, t.object(object))) {
            s.next_object = (s.next_object + i + 1) % count;
            return object;
        }
    }
    return era::NO_NODE;
}

/// What an object or an extent is, on the line of its count: in the pool before the count is.
/// `root`: 1 + the number of the group that the extent is of, or 0.
void describe(const era::Tables& t, const Export& e, u64 root) {
    with_pool_memory([&](auto& m) {
        era::ObjectEntry& entry = t.object(e.object - 1);
        m.store(entry.address, e.address);
        m.store(entry.bytes, e.bytes);
        m.store(entry.serial, m.load(entry.serial) + 1);
        m.store(entry.root, root);
        m.store(entry.root_serial,
                root == 0 ? 0 : m.load(t.object(static_cast<u32>(root - 1)).serial));
        return 0;
    });
}

/// By what address a group's references are sent; it changes while nobody else has any.
void tell_head(const era::Tables& t, u32 index) {
    const Export& e = export_at(index);
    const Export& head = e.root == NO_RECORD ? e : export_at(e.root);
    with_pool_memory([&](auto& m) {
        era::ObjectEntry& entry = t.object(e.object - 1);
        m.store(entry.head, is_group(index) ? head.address : 0);
        m.store(entry.head_bytes, head.bytes);
        return 0;
    });
}

/// Numbers for the extents that have none; `anew`: the group has another one than before. False:
/// there are not enough.
bool number_extents(const era::Tables& t, u32 group, bool anew) {
    const u32 whole = export_at(group).object;
    for (u32 i = export_at(group).next_extent; i != NO_RECORD; i = export_at(i).next_extent) {
        Export& extent = export_at(i);
        if (extent.object == 0) {
            const u32 object = free_number(t);
            if (object == era::NO_NODE) return false;
            extent.object = object + 1;
            export_of_object(object) = i;
        } else if (!anew) {
            continue;
        }
        describe(t, extent, whole);
    }
    return true;
}

/// What number_extents() wrote, on its way to the pool. The group is pinned, or the lock held.
template <class Memory>
void flush_extents(Memory& m, const era::Tables& t, u32 group) {
    for (u32 i = __atomic_load_n(&export_at(group).next_extent, __ATOMIC_ACQUIRE); i != NO_RECORD;
         i = export_at(i).next_extent) {
        if (export_at(i).object != 0) m.flush(t.object(export_at(i).object - 1).serial);
    }
}

/// The export is no longer this operation's.
void unpin(u32 index) {
    Export& e = export_at(index);
    --e.pins;
    if (e.references == 0 && !e.listed) dispose(index);
}

enum class Begun { no, known, first, wait };

/// The first step of a send: the export is pinned, and has a number.
Begun begin_send(u32 client, const ShareRequest& r, const era::Tables& t, u32& index,
                 ShareReply& reply) {
    const Alone alone;
    if (!alone.is_sound()) {
        reply.status = Status::poisoned;
        return Begun::no;
    }
    if (share_client(client).open == 0 || !is_reachable(t, ShareId{r.b})) {
        reply.status = Status::gone;
        return Begun::no;
    }
    reply.status = find_held(client, r.a, r.mask, index);
    if (reply.status != Status::ok) return Begun::no;
    Export& e = export_at(index);
    const bool first = e.node_ref == NodeRef::none;
    if (!first && e.node_ref != NodeRef::held) return Begun::wait;
    if (first) {
        const u32 object = free_number(t);
        if (object == era::NO_NODE) {
            reply.status = Status::limit;
            return Begun::no;
        }
        e.object = object + 1;
        export_of_object(object) = index;
        describe(t, e, 0);
    }
    // Of another node's object that node tells.
    if (e.owner != OWNER_ELSEWHERE) {
        if (!number_extents(t, index, first)) {
            if (first) forget_number(index);
            reply.status = Status::limit;
            return Begun::no;
        }
        tell_head(t, index);
    }
    if (first) e.node_ref = NodeRef::taking;
    ++e.pins;
    AEP_AWAY_CRASH_POINT("away: number taken");
    return first ? Begun::first : Begun::known;
}

}  // namespace

bool numbers_left() { return free_number(era_tables()) != era::NO_NODE; }

void publish_extents(u32 group) {
    const era::Tables t = era_tables();
    number_extents(t, group, false);
    with_pool_memory([&](auto& memory) {
        flush_extents(memory, t, group);
        memory.fence();  // before anything in them can be reached
        return 0;
    });
}

ShareReply send_away(u32 client, const ShareRequest& r) {
    const era::Tables t = era_tables();
    const ShareId to{r.b};
    u32 index = NO_RECORD;
    ShareReply reply{};
    Begun begun;
    while ((begun = begin_send(client, r, t, index, reply)) == Begun::wait) {
        // Another operation is at a transaction with it, which it completes.
        __builtin_ia32_pause();
    }
    if (begun == Begun::no) return reply;
    const Export& e = export_at(index);  // pinned
    const u32 object = e.object - 1;
    bool created = begun == Begun::known;
    const era::Status status = in_lane(t, client, [&](auto& lane) {
        auto& memory = lane.memory();
        if (!era::has_room(memory, t, lane.node(), to.node(), to.bits,
                           sharing().heads_seen[to.node()])) {
            return era::Status::full;
        }
        flush_extents(memory, t, index);  // the fence of what follows is theirs, too
        memory.flush(t.count(object));
        if (!created) {
            const era::Status made = lane.create(object, object);
            if (made != era::Status::ok) return made;
            created = true;
            AEP_AWAY_CRASH_POINT("away: created");
        }
        const era::Status sent = era::send(lane, to.node(), object, {to.bits, id_of(client).bits});
        if (sent == era::Status::ok) AEP_AWAY_CRASH_POINT("away: message sent");
        return sent;
    });
    const Alone alone;
    if (!alone.is_sound()) return {.status = Status::poisoned};
    if (begun == Begun::first) {
        if (created) {
            export_at(index).node_ref = NodeRef::held;
        } else {
            forget_number(index);
        }
    }
    if (status == era::Status::ok) {
        ++sharing().sent;
        ++sharing().sent_away;
    }
    unpin(index);
    return {.status = status_of(status)};
}

namespace {

/// What becomes of a message that was found.
enum class Taking { nothing, first, another, wait };

/// The first step of a receive: the export is there and pinned. first: the message's reference is
/// to become the node's.
Taking begin_receive(u32 client, const era::Waiting& w, u32& index, ShareReply& reply) {
    const Alone alone;
    if (!alone.is_sound()) {
        reply.status = Status::poisoned;
        return Taking::nothing;
    }
    if (share_client(client).open == 0) {
        reply.status = Status::gone;
        return Taking::nothing;
    }
    if (!records_left(2, 1)) {
        reply.status = Status::need_records;
        return Taking::nothing;
    }
    index = export_of_object(w.object);
    if (index == NO_RECORD) {
        index = make_foreign_export(w.object);
        export_at(index).node_ref = NodeRef::taking;
        ++export_at(index).pins;
        return Taking::first;
    }
    if (export_at(index).node_ref != NodeRef::held) return Taking::wait;
    ++export_at(index).pins;
    return Taking::another;
}

/// The last step: the client has a reference, if the message was ours.
bool end_receive(u32 client, const era::Tables& t, const era::Waiting& w, u32 index, Taking taking,
                 era::Status status, ShareReply& reply) {
    const Alone alone;
    if (!alone.is_sound()) {
        reply.status = Status::poisoned;
        return true;
    }
    Export& e = export_at(index);
    const bool taken = status == era::Status::ok;
    if (taking == Taking::first && taken) {
        e.node_ref = NodeRef::held;
        const era::ObjectEntry& entry = t.object(w.object);
        const u64 address = entry.address.load();
        const u64 bytes = entry.bytes.load();
        const u64 window = u64{context().chunk_count} * CHUNK_SIZE;
        // What another machine says is believed within the pool's bounds.
        const bool sound = address - HEAP_BASE < window && bytes != 0 &&
                           bytes <= window - (address - HEAP_BASE) &&
                           find_export(address) == NO_RECORD;
        if (!sound) {
            reply.status = Status::gone;
            unpin(index);
            return true;
        }
        name_foreign_export(index, address, bytes);
        const u64 head = entry.head.load();
        if (head != 0) {
            e.group = index;
            ++sharing().groups;
            const bool free = in_heap_window(head) && find_export(head) == NO_RECORD;
            if (free) add_root(index, head, entry.head_bytes.load());
        }
    } else if (taking == Taking::first) {
        forget_number(index);
    }
    if (taken) {
        e.state = static_cast<u32>(ExportState::live);  // it may have lingered
        hold(client, index);
        ++e.references;
        ++sharing().received;
        ++sharing().came_in;
        reply = {
            .value = e.address, .mask = is_group(index) ? 0 : e.bytes, .extra = w.envelope.from};
    }
    unpin(index);
    return taken;
}

/// Takes one message. True: `reply` is the answer.
bool accept(u32 client, const era::Tables& t, const era::Waiting& w, ShareReply& reply) {
    if (w.object >= t.shape.objects) return false;  // another machine's word is not believed
    u32 index = NO_RECORD;
    Taking taking;
    while ((taking = begin_receive(client, w, index, reply)) == Taking::wait) {
        __builtin_ia32_pause();  // the operation that is at it completes
    }
    if (taking == Taking::nothing) return true;
    const era::Status status = in_lane(t, client, [&](auto& lane) {
        // The node has a reference already, or gets the message's.
        return taking == Taking::first ? era::take_message(lane, w, w.object)
                                       : era::drop_message(lane, w);
    });
    if (taking == Taking::first) {
        AEP_AWAY_CRASH_POINT("away: message taken");
    } else {
        AEP_AWAY_CRASH_POINT("away: message dropped");
    }
    if (status == era::Status::fenced) reply.status = status_of(status);
    return end_receive(client, t, w, index, taking, status, reply) || status == era::Status::fenced;
}

}  // namespace

ShareReply receive_from_away(u32 client, const ShareRequest& r) {
    const era::Tables t = era_tables();
    const u32 node = context().era_node;
    const ShareId own = id_of(client);
    ShareReply reply{.status = Status::miss};
    const auto take = [&](const era::Waiting& w) {
        return w.envelope.to == own.bits && (r.b == 0 || w.envelope.from == r.b) &&
               accept(client, t, w, reply);
    };
    const bool found = with_pool_memory([&](auto& memory) {
        // Not all begin with the same node.
        return era::each_message_to(memory, t, node, client, false, take);
    });
    if (!found && is_elsewhere(ShareId{r.b}) && !is_reachable(t, ShareId{r.b})) {
        reply.status = Status::gone;
    }
    return reply;
}

namespace {

/// An export of the list that may go now, pinned; NO_RECORD: none.
u32 begin_settle(Lingering& list, u32& looks) {
    const Alone alone;
    if (!alone.is_sound()) return NO_RECORD;
    while (looks != 0) {
        --looks;
        const u32 index = next_lingering(list);
        if (index == NO_RECORD) return NO_RECORD;
        Export& e = export_at(index);
        if (e.references != 0) continue;  // somebody received it again
        if (e.pins != 0) continue;        // whoever is at work with it disposes of it
        const bool ours = e.owner != OWNER_ELSEWHERE;
        // Only this node could attach to it again, and nobody of it can any more.
        if (ours && references_elsewhere(e) != 0) {
            dispose(index);  // to the end of the list
            continue;
        }
        e.node_ref = NodeRef::dropping;
        ++e.pins;
        return index;
    }
    return NO_RECORD;
}

}  // namespace

u32 settle(Lingering& list, u32 client, u32 limit) {
    const era::Tables t = era_tables();
    u32 looks = limit;
    if (const u32 count = list.count.load(std::memory_order_relaxed); count < looks) looks = count;
    u32 settled = 0;
    u32 told = era::NO_NODE;  // that fewer refer to objects of its own
    const auto tell = [&](u32 home) {
        if (told != era::NO_NODE && told != home) {
            with_pool_memory([&](auto& memory) { era::ring_doorbell(memory, t, told); });
        }
        told = home;
    };
    for (u32 index; (index = begin_settle(list, looks)) != NO_RECORD; ++settled) {
        const u32 object = export_at(index).object - 1;
        const u32 home = object / t.objects_per_node();
        const era::Status status = in_lane(t, client, [&](auto& lane) {
            const era::Status released = lane.release(object);
            if (released == era::Status::last) lane.reclaimed();
            AEP_AWAY_CRASH_POINT("away: reference given up");
            return released;
        });
        if (status == era::Status::ok && home != context().era_node) tell(home);
        const Alone alone;
        if (!alone.is_sound()) return settled;
        if (status == era::Status::fenced) fence_context();
        forget_number(index);
        unpin(index);
    }
    tell(era::NO_NODE);
    return settled;
}

void tidy_rings() {
    const era::Tables t = era_tables();
    const u32 node = context().era_node;
    const auto tidy = [&](const era::Waiting& w) {
        if (is_open(ShareId{w.envelope.to})) {
            with_pool_memory(
                [&](auto& memory) { return era::note_stray(memory, t, w.from, node, w.position); });
            return false;
        }
        const era::Status status = in_lane(t, 0, [&](auto& lane) {
            const era::Status dropped = era::drop_message(lane, w);
            if (dropped == era::Status::last) lane.reclaimed();
            return dropped;
        });
        return status == era::Status::fenced;
    };
    with_pool_memory(
        [&](auto& memory) { return era::each_message_to(memory, t, node, 0, true, tidy); });
}

}  // namespace aep
