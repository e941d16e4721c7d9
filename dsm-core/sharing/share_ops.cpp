// Purpose: see share_ops.hpp.
// Who calls it: see share_ops.hpp.
// Crash rule: see share_ops.hpp.
#include "dsm-core/sharing/share_ops.hpp"

#include "dsm-core/sharing/away.hpp"
#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/disposal.hpp"
#include "dsm-core/sharing/dropping.hpp"
#include "dsm-core/sharing/giving.hpp"
#include "dsm-core/sharing/group_ops.hpp"
#include "dsm-core/sharing/inbox_ops.hpp"
#include "dsm-core/sharing/lingering.hpp"
#include "dsm-core/sharing/peers.hpp"
#include "dsm-core/sharing/records.hpp"
#include "dsm-core/sharing/taking_part.hpp"
#include "dsm-core/sharing/topic_ops.hpp"

namespace aep {
namespace {

/// Of a client. (The host asks for some of the others on behalf of nobody.)
bool is_client(Caller caller) {
    return caller.client != 0 && caller.client <= context().max_clients;
}

/// Those who sleep at the inbox are woken when the operation is over.
void tell_of_arrivals(Turn& turn, u32 inbox) {
    turn.wake_after(inbox, Sleep::arrivals);
    // Who watches raises `arrival_waiters` and then reads `arrivals`: one of us sees the other.
    if (AEP_UNLIKELY(inbox_at(inbox).watched != 0))
        std::atomic_thread_fence(std::memory_order_seq_cst);
}

/// The locks of a send, and whether both inboxes are open.
Status begin_send(Turn& turn, u32 client, ShareId to, u32 as) {
    if (!turn.client(client) || !turn.inbox(to.inbox())) return Status::poisoned;
    return is_open(to) && is_inbox_of(client, as) ? Status::ok : Status::gone;
}

op::Send::Reply send_here(Caller caller, const op::Send& o) {
    const u32 client = caller.client;
    const u32 as = o.as == 0 ? client : o.as;
    if (!is_inbox(o.to.inbox())) return {.status = Status::gone};
    Turn turn(caller);
    if (const Status begun = begin_send(turn, client, o.to, as); begun != Status::ok)
        return {.status = begun};
    const op::Send::Reply reply = send_under_locks(turn, client, as, o);
    if (AEP_LIKELY(reply.status == Status::ok)) tell_of_arrivals(turn, o.to.inbox());
    return reply;
}

/// Each message is there, with its reference, before the next one is begun: an object's locks come after those that stay, and no operation has
/// two objects'.
op::SendMany::Reply send_many_here(Caller caller, const op::SendMany& o) {
    const u32 client = caller.client;
    const u32 as = o.as == 0 ? client : o.as;
    op::SendMany::Reply reply;
    if (!is_inbox(o.to.inbox())) return {.status = Status::gone};
    Turn turn(caller);
    reply.status = begin_send(turn, client, o.to, as);
    const u32 locks = turn.held();
    for (u32 i = 0; i < o.count && i < op::SendMany::MOST && reply.status == Status::ok; ++i) {
        const op::Send one{.object = o.objects[i],
                           .to = o.to,
                           .bytes = o.bytes[i],
                           .label = o.label,
                           .as = o.as,
                           .drop = o.drop};
        const op::Send::Reply sent = send_under_locks(turn, client, as, one);
        reply.status = sent.status;
        if (sent.status != Status::ok) break;
        if (i == 0) tell_of_arrivals(turn, o.to.inbox());
        reply.left_groups[i] = sent.left_group;
        reply.sent = i + 1;
        turn.let_go_of_later(locks);
        AEP_SHARE_CRASH_POINT("share: one of many sent");
    }
    return reply;
}

/// Takes the oldest message from `from` out of an inbox of the client's, under the client's lock and the inbox': its reference is the client's now.
op::Receive::Reply receive_under_locks(Turn& turn, u32 client, u32 at, ShareId from) {
    Inbox& own = inbox_at(at);
    u32 place = find_message(at, from);
    if (place == MAILBOX_MESSAGES) {
        const bool beyond = shares_between_nodes() && is_elsewhere(from);
        const bool hopeless = from.bits != 0 && !beyond && !is_open(from);
        return {.status = hopeless ? Status::gone : Status::miss};
    }
    const u32 object = message_at(at, place).object;
    const u32 holder = find_holder(client, object);
    if (holder == NO_RECORD) {
        const Status supplied = supply(turn, client, 0, true);
        if (supplied != Status::ok) return {.status = supplied};
    }
    const bool was_full = own.messages == MAILBOX_MESSAGES;
    if (AEP_UNLIKELY(was_full && place != 0)) {
        bring_forward(turn, at, place);  // a gap would be no room
        place = 0;
    }
    const u32 kib = own.kib;
    const Message m = take_message(at, place);
    if (holder != NO_RECORD)
        ++holder_at(holder).count;
    else
        hold_anew(client, object, 0);
    ++share_client(client).received;
    if (AEP_UNLIKELY(was_full || kib != own.kib)) turn.wake_after(at, Sleep::departures);
    // As long as somebody refers to it that does not change.
    const Export& e = export_at(object);
    const bool group = e.group.load() == object;
    return {.kind = group ? ObjectKind::group : ObjectKind::object,
            .object = e.address.load(),
            .bytes = group ? 0 : e.bytes.load(),
            .sender = {m.sender},
            .label = m.label()};
}

/// The locks of a receive, and whether the inbox is the client's.
Status begin_receive(Turn& turn, u32 client, u32 at) {
    if (!turn.client(client) || !turn.inbox(at)) return Status::poisoned;
    return is_inbox_of(client, at) ? Status::ok : Status::gone;
}

op::Receive::Reply receive_here(Caller caller, const op::Receive& o) {
    const u32 at = o.at == 0 ? caller.client : o.at;
    if (!is_inbox(at)) return {.status = Status::gone};
    Turn turn(caller);
    if (const Status begun = begin_receive(turn, caller.client, at); begun != Status::ok)
        return {.status = begun};
    return receive_under_locks(turn, caller.client, at, o.from);
}

/// What is read of the next messages lies on lines that their senders have written: they are fetched side by side.
void fetch_ahead(u32 inbox, u32 count) {
    const u32 there = inbox_at(inbox).messages;
    for (u32 i = 0; i < count && i < there; ++i)
        if (const u32 object = message_at(inbox, i).object; object != NO_RECORD)
            __builtin_prefetch(&export_at(object));
}

/// All of them at once: a message's reference becomes the client's under the two locks alone.
op::ReceiveMany::Reply receive_many_here(Caller caller, const op::ReceiveMany& o) {
    const u32 at = o.at == 0 ? caller.client : o.at;
    const u32 most = o.most < op::ReceiveMany::MOST ? o.most : op::ReceiveMany::MOST;
    op::ReceiveMany::Reply reply;
    if (!is_inbox(at)) return {.status = Status::gone};
    Turn turn(caller);
    reply.status = begin_receive(turn, caller.client, at);
    if (reply.status != Status::ok) return reply;
    fetch_ahead(at, most);
    while (reply.count < most) {
        const op::Receive::Reply one = receive_under_locks(turn, caller.client, at, o.from);
        if (one.status != Status::ok) {
            if (reply.count == 0) reply.status = one.status;
            break;
        }
        reply.taken.message[reply.count++] = {one.object, one.bytes, one.sender, one.label,
                                              one.kind};
    }
    return reply;
}

}  // namespace

op::Open::Reply perform(Caller caller, const op::Open& o) {
    return is_client(caller) ? open_client(caller, o) : op::Open::Reply{.status = Status::gone};
}

op::Send::Reply perform(Caller caller, const op::Send& o) {
    if (!is_client(caller)) return {.status = Status::gone};
    if (!shares_between_nodes() || !is_elsewhere(o.to)) return send_here(caller, o);
    const op::Send::Reply sent = send_away(caller, o);
    if (sent.status != Status::ok || !o.drop) return sent;
    // The message is there. Who is killed from here on has nothing any more, this reference neither.
    const op::Drop::Reply dropped = perform(caller, op::Drop{o.object});
    return {.memory = dropped.memory, .left_group = dropped.left_group};
}

op::Receive::Reply perform(Caller caller, const op::Receive& o) {
    if (!is_client(caller)) return {.status = Status::gone};
    const op::Receive::Reply reply = receive_here(caller, o);
    if (reply.status != Status::miss || !shares_between_nodes()) return reply;
    return receive_from_away(caller, o);
}

op::SendMany::Reply perform(Caller caller, const op::SendMany& o) {
    if (!is_client(caller) || (shares_between_nodes() && is_elsewhere(o.to)))
        return {.status = Status::gone};
    return send_many_here(caller, o);
}

op::ReceiveMany::Reply perform(Caller caller, const op::ReceiveMany& o) {
    if (!is_client(caller)) return {.status = Status::gone};
    return receive_many_here(caller, o);
}

op::DropMany::Reply perform(Caller caller, const op::DropMany& o) {
    return is_client(caller) ? drop_references(caller, o)
                             : op::DropMany::Reply{.status = Status::gone};
}

op::Reference::Reply perform(Caller caller, const op::Reference& o) {
    if (!is_client(caller)) return {.status = Status::gone};
    const u32 client = caller.client;
    Turn turn(caller);
    if (!turn.client(client)) return {.status = Status::poisoned};
    if (!share_client(client).takes_part()) return {.status = Status::gone};
    u32 holder = NO_RECORD;
    const Status status = find_held(turn, client, o.object, o.bytes, holder);
    if (status != Status::ok) return {.status = status};
    if (!take_reference(turn, holder)) return {.status = Status::poisoned};
    ++holder_at(holder).count;
    return {};
}

op::Drop::Reply perform(Caller caller, const op::Drop& o) {
    if (!is_client(caller)) return {.status = Status::gone};
    const u32 waited = sharing().deferred.count.load(std::memory_order_relaxed);
    const op::Drop::Reply reply = drop_reference(caller, o);
    if (shares_between_nodes()) after_drop(caller, waited);
    return reply;
}

op::Query::Reply perform(Caller caller, const op::Query& o) {
    if (!is_client(caller)) return {.status = Status::gone};
    const u32 client = caller.client;
    Turn turn(caller);
    if (!turn.client(client)) return {.status = Status::poisoned};
    u32 holder = find_holder_at(client, o.object);
    u32 object = NO_RECORD;
    if (holder != NO_RECORD) {
        object = holder_at(holder).object;
    } else {
        if (!turn.stripe(o.object)) return {.status = Status::poisoned};
        object = find_export(o.object);
        if (object == NO_RECORD) return {.status = Status::miss};
        holder = find_holder(client, object);  // by its root
    }
    if (!turn.object(object)) return {.status = Status::poisoned};
    const Export& e = export_at(object);
    const u64 spare = (holder == NO_RECORD ? 0 : u64{holder_at(holder).spare}) +
                      (o.exactly ? spare_of_others(client, object) : 0);
    const u64 own = holder == NO_RECORD ? 0 : u64{holder_at(holder).count};
    const u64 here = e.references > spare + own ? e.references - spare : own;
    return {.references = here + references_elsewhere(e), .bytes = e.bytes, .own = own};
}

op::TakeReturned::Reply perform(Caller caller, const op::TakeReturned&) {
    if (!is_client(caller)) return {.status = Status::gone};
    const u32 client = caller.client;
    op::TakeReturned::Reply reply{.status = Status::miss};
    Turn turn(caller);
    do {
        if (!turn.client(client)) return {.status = Status::poisoned};
        u64 address = 0;
        const Locked locked = remove_returned(turn, client, address);
        if (locked == Locked::given_up) return {.status = Status::poisoned};
        if (locked == Locked::nothing) break;
        // Each by itself: of one that is killed after some its heap goes with it, and those with that.
        turn.let_go();
        AEP_SHARE_CRASH_POINT("share: returned one taken");
        reply.status = Status::ok;
        reply.objects[reply.count++] = address;
    } while (reply.count != op::TakeReturned::MOST &&
             share_client(client).taken_back.load() != NO_RECORD);
    return reply;
}

op::AddRecords::Reply perform(Caller caller, const op::AddRecords& o) {
    if (!is_client(caller)) return {.status = Status::gone};
    Turn turn(caller);
    if (!turn.records()) return {.status = Status::poisoned};
    ShareHeader& s = sharing();
    if (o.exports > MAX_EXPORTS || o.holders > MAX_HOLDERS) return {.status = Status::limit};
    if (o.exports > s.exports_present) s.exports_present = o.exports;
    if (o.holders > s.holders_present) s.holders_present = o.holders;
    return {};
}

op::Watch::Reply perform(Caller caller, const op::Watch& o) {
    if (!is_client(caller)) return {.status = Status::gone};
    Turn turn(caller);
    if (!turn.inbox(caller.client)) return {.status = Status::poisoned};
    Inbox& own = share_client(caller.client).inbox;
    if (own.open == 0) return {.status = Status::gone};
    own.watched = (o.messages ? Inbox::MESSAGES_WATCHED : 0) | (o.peers ? Inbox::PEERS_WATCHED : 0);
    // There may be news of those already.
    if (o.peers) turn.wake_after(caller.client, Sleep::arrivals);
    return {};
}

op::LookAtPeer::Reply perform(Caller caller, const op::LookAtPeer& o) {
    return is_client(caller) ? look_at_peer(caller, o)
                             : op::LookAtPeer::Reply{.status = Status::gone};
}

op::OpenInbox::Reply perform(Caller caller, const op::OpenInbox& o) {
    return is_client(caller) ? open_inbox(caller, o) : op::OpenInbox::Reply{.status = Status::gone};
}

op::CloseInbox::Reply perform(Caller caller, const op::CloseInbox& o) {
    if (!is_client(caller)) return {.status = Status::gone};
    return o.inbox == caller.client ? stop_taking_part(caller) : close_inbox(caller, o);
}

op::LimitInbox::Reply perform(Caller caller, const op::LimitInbox& o) {
    return is_client(caller) ? limit_inbox(caller, o) : Done{Status::gone};
}

op::Leave::Reply perform(Caller caller, const op::Leave&) {
    return is_client(caller) ? leave_client(caller) : op::Leave::Reply{.status = Status::gone};
}

op::Settle::Reply perform(Caller caller, const op::Settle& o) {
    if (caller.client > context().max_clients) return {.status = Status::gone};
    return give_up_lingering(caller, !o.own_only);
}

op::Tidy::Reply perform(Caller caller, const op::Tidy& o) {
    if (caller.client > context().max_clients) return {.status = Status::gone};
    if (shares_between_nodes()) tidy_rings(caller, o.from);
    return give_up_lingering(caller, true);
}

op::FinishAway::Reply perform(Caller caller, const op::FinishAway& o) {
    if (caller.client > context().max_clients) return {.status = Status::gone};
    return shares_between_nodes() ? finish_away(caller, o) : Done{};
}

op::MakeGroup::Reply perform(Caller caller, const op::MakeGroup& o) {
    return is_client(caller) ? make_group(caller, o) : op::MakeGroup::Reply{.status = Status::gone};
}

op::FindGroup::Reply perform(Caller caller, const op::FindGroup& o) {
    return is_client(caller) ? find_group(caller, o) : op::FindGroup::Reply{.status = Status::gone};
}

op::ExtendGroup::Reply perform(Caller caller, const op::ExtendGroup& o) {
    return is_client(caller) ? extend_group(caller, o) : Done{Status::gone};
}

op::SetRoot::Reply perform(Caller caller, const op::SetRoot& o) {
    return is_client(caller) ? set_root(caller, o) : Done{Status::gone};
}

op::SetWriter::Reply perform(Caller caller, const op::SetWriter& o) {
    return is_client(caller) ? set_writer(caller, o) : Done{Status::gone};
}

op::TakeGroup::Reply perform(Caller caller, const op::TakeGroup& o) {
    return is_client(caller) ? take_group(caller, o) : Done{Status::gone};
}

op::CountUnknown::Reply perform(Caller caller, const op::CountUnknown& o) {
    return is_client(caller) ? count_unknown(caller, o)
                             : op::CountUnknown::Reply{.status = Status::gone};
}

op::OpenTopic::Reply perform(Caller caller, const op::OpenTopic& o) {
    return is_client(caller) ? open_topic(caller, o) : op::OpenTopic::Reply{.status = Status::gone};
}

op::Subscribe::Reply perform(Caller caller, const op::Subscribe& o) {
    return is_client(caller) ? subscribe(caller, o) : Done{Status::gone};
}

op::Publish::Reply perform(Caller caller, const op::Publish& o) {
    return is_client(caller) ? publish(caller, o) : op::Publish::Reply{.status = Status::gone};
}

op::TakePublication::Reply perform(Caller caller, const op::TakePublication& o) {
    return is_client(caller) ? take_publication(caller, o)
                             : op::TakePublication::Reply{.status = Status::gone};
}

op::CloseTopic::Reply perform(Caller caller, const op::CloseTopic& o) {
    return is_client(caller) ? close_topic(caller, o) : Done{Status::gone};
}

}  // namespace aep
