// Purpose: see share_ops.hpp.
// Who calls it: see share_ops.hpp.
// Crash rule: see share_ops.hpp.
#include "dsm-core/sharing/share_ops.hpp"

#include "dsm-core/sharing/away.hpp"
#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/disposal.hpp"
#include "dsm-core/sharing/group_ops.hpp"
#include "dsm-core/sharing/lingering.hpp"
#include "dsm-core/sharing/records.hpp"

namespace aep {
namespace {

/// Holders and exports that one `leave` deals with: the lock is everybody's.
constexpr u32 LEAVE_STEP = 64;

void set_name(ShareClient& client, const ShareName& name) {
    u64 words[SHARE_NAME_BYTES / sizeof(u64)];
    __builtin_memcpy(words, name.text, sizeof words);
    for (usize i = 0; i < SHARE_NAME_BYTES / sizeof(u64); ++i) client.name_words[i] = words[i];
}

// ---- operations, under one lock from beginning to end

op::Open::Reply perform_locked(u32 client, const op::Open& o, SharingLock&) {
    ShareName name = o.name;
    name.text[SHARE_NAME_BYTES - 1] = '\0';
    ShareClient& own = share_client(client);
    const bool anew = own.open == 0;
    for (u32 i = 1; i <= context().max_clients && name.text[0] != '\0'; ++i)
        if (i != client && is_called(share_client(i), name.text)) return {.status = Status::exists};
    if (shares_between_nodes() && name.text[0] != '\0' && !claim_name(client, name.text)) {
        announce(client);  // as it was
        return {.status = Status::exists};
    }
    if (anew) {
        // Its predecessor may have died waiting. Those who wait for room are others.
        own.arrival_waiters.store(0, std::memory_order_relaxed);
        own.watched = 0;
    }
    own.generation = client_at(client).generation.load(std::memory_order_relaxed);
    set_name(own, name);
    own.open = 1;
    if (shares_between_nodes()) announce(client);
    return {};
}

op::Send::Reply perform_locked(u32 client, const op::Send& o, SharingLock& lock) {
    const ShareId to = o.to;
    if (!is_open(to) || share_client(client).open == 0) return {.status = Status::gone};
    ShareClient& receiver = share_client(to.client());
    if (receiver.messages == MAILBOX_MESSAGES) return {.status = Status::full};
    u32 holder = NO_RECORD;
    const Status status = find_held(client, o.object, o.bytes, holder);
    if (status != Status::ok) return {.status = status};
    const u32 object = holder_at(holder).object;
    const u32 place = (receiver.first_message + receiver.messages) % MAILBOX_MESSAGES;
    write_unreached(mailbox_of(to.client())[place],
                    {object, o.label.version, id_of(client).bits, o.label.tag, o.label.type});
    ++export_at(object).references;
    AEP_SHARE_CRASH_POINT("share: message laid down");
    ++receiver.messages;
    ++sharing().sent;
    lock.wake_after(to.client(), Sleep::arrivals);
    // Who watches raises `arrival_waiters` and then reads `arrivals`: one of us sees the other.
    if (AEP_UNLIKELY(receiver.watched != 0)) std::atomic_thread_fence(std::memory_order_seq_cst);
    return {};
}

op::Watch::Reply perform_locked(u32 client, const op::Watch&, SharingLock&) {
    if (share_client(client).open == 0) return {.status = Status::gone};
    share_client(client).watched = 1;
    return {};
}

/// The place of the oldest message, from anybody or from `from`; MAILBOX_MESSAGES: none.
u32 find_message(u32 client, ShareId from) {
    const ShareClient& own = share_client(client);
    for (u32 i = 0; i < own.messages; ++i) {
        const Message& m = mailbox_of(client)[(own.first_message + i) % MAILBOX_MESSAGES];
        if (from.bits == 0 || m.sender == from.bits) return i;
    }
    return MAILBOX_MESSAGES;
}

/// So many messages change places between two commits, each of five words that are logged twice.
constexpr u32 MOST_MOVES = 64;
static_assert(MOST_MOVES * 2 * 5 < UndoLog::CAPACITY - 100);

/// Takes the message out. It comes before older ones by changing places with one after the other: each of these
/// steps may be the last one, for only the order of messages from different senders is another then.
Message take_message(u32 client, u32 i, SharingLock& lock) {
    ShareClient& own = share_client(client);
    Message* box = mailbox_of(client);
    const auto at = [&](u32 n) -> Message& {
        return box[(own.first_message + n) % MAILBOX_MESSAGES];
    };
    for (; i != 0; --i) {
        const Message older = at(i - 1);
        at(i - 1) = at(i);
        at(i) = older;
        if (i % MOST_MOVES == 0) lock.commit();
    }
    const Message taken = at(0);
    own.first_message = (own.first_message + 1) % MAILBOX_MESSAGES;
    --own.messages;
    AEP_SHARE_CRASH_POINT("share: message taken");
    return taken;
}

op::Receive::Reply perform_locked(u32 client, const op::Receive& o, SharingLock& lock) {
    ShareClient& own = share_client(client);
    if (own.open == 0) return {.status = Status::gone};
    const ShareId from = o.from;
    const u32 place = find_message(client, from);
    if (place == MAILBOX_MESSAGES) {
        const bool beyond = shares_between_nodes() && is_elsewhere(from);
        const bool hopeless = from.bits != 0 && !beyond && !is_open(from);
        return {.status = hopeless ? Status::gone : Status::miss};
    }
    if (!records_left(0, true)) return {.status = Status::need_records};
    const bool was_full = own.messages == MAILBOX_MESSAGES;
    const Message m = take_message(client, place, lock);
    const u32 object = m.object;
    hold(client, object);  // the message's reference is the client's now
    ++sharing().received;
    if (was_full) lock.wake_after(client, Sleep::departures);
    const Export& e = export_at(object);
    const bool group = is_group(object);
    return {.kind = group ? ObjectKind::group : ObjectKind::object,
            .object = e.address,
            .bytes = group ? 0 : u64{e.bytes},
            .sender = {m.sender},
            .label = m.label()};
}

op::Reference::Reply perform_locked(u32 client, const op::Reference& o, SharingLock&) {
    if (share_client(client).open == 0) return {.status = Status::gone};
    u32 holder = NO_RECORD;
    const Status status = find_held(client, o.object, o.bytes, holder);
    if (status != Status::ok) return {.status = status};
    ++holder_at(holder).count;
    ++export_at(holder_at(holder).object).references;
    return {};
}

op::Drop::Reply perform_locked(u32 client, const op::Drop& o, SharingLock&) {
    u32 holder = find_holder_at(client, o.object);
    if (holder == NO_RECORD) {
        const u32 found = find_export(o.object);
        if (found == NO_RECORD) return {.status = Status::miss};
        holder = find_holder(client, found);  // by its group's root, perhaps
        if (holder == NO_RECORD) return {.status = Status::not_held};
    }
    const u32 object = holder_at(holder).object;
    const bool group = is_group(object);
    const u64 forgotten =
        group && holder_at(holder).count == 1 ? u64{export_at(object).address} : 0;
    if (--holder_at(holder).count == 0) free_holder(client, holder);
    if (!take_references(object, 1)) return {.left_group = forgotten};
    const Export& e = export_at(object);
    const bool own = e.owner == client && !group && e.node_ref == NodeRef::none && e.pins == 0;
    if (own)
        free_export(object);
    else
        dispose(object);
    return {.memory = own ? Memory::yours_to_free : Memory::kept, .left_group = forgotten};
}

op::Query::Reply perform_locked(u32 client, const op::Query& o, SharingLock&) {
    const u32 object = find_export(o.object);
    if (object == NO_RECORD) return {.status = Status::miss};
    const u32 holder = find_holder(client, object);
    const Export& e = export_at(object);
    return {.references = e.references + references_elsewhere(e),
            .bytes = e.bytes,
            .own = holder == NO_RECORD ? 0 : u64{holder_at(holder).count}};
}

op::TakeReturned::Reply perform_locked(u32 client, const op::TakeReturned&, SharingLock&) {
    ShareClient& own = share_client(client);
    const u32 object = own.first_returned;
    if (object == NO_RECORD) return {.status = Status::miss};
    const u64 address = export_at(object).address;
    own.first_returned = export_at(object).next_returned;
    free_export(object);
    return {.object = address};
}

op::AddRecords::Reply perform_locked(u32, const op::AddRecords& o, SharingLock&) {
    ShareHeader& s = sharing();
    if (o.exports > MAX_EXPORTS || o.holders > MAX_HOLDERS) return {.status = Status::limit};
    if (o.exports > s.exports_present) s.exports_present = o.exports;
    if (o.holders > s.holders_present) s.holders_present = o.holders;
    return {};
}

/// First it takes part no more; then its messages, its references, its exports. Each of them is
/// one change; what comes of a change that is undone is done when this is asked for again.
op::Leave::Reply perform_locked(u32 client, const op::Leave&, SharingLock& lock) {
    ShareClient& own = share_client(client);
    own.open = 0;
    own.name_words[0] = 0;
    if (shares_between_nodes()) announce(client);
    lock.commit();
    u32 left = LEAVE_STEP;
    for (; own.messages != 0 && left != 0; --left) {
        const u32 object = take_message(client, 0, lock).object;
        if (take_references(object, 1)) dispose(object);
        lock.commit();
    }
    for (u32 holder; left != 0 && (holder = any_holder(client)) != NO_RECORD; --left) {
        const u32 object = holder_at(holder).object;
        const u32 count = holder_at(holder).count;
        free_holder(client, holder);
        if (take_references(object, count)) dispose(object);
        lock.commit();
    }
    for (; own.first_returned != NO_RECORD && left != 0; --left) {
        const u32 object = own.first_returned;
        own.first_returned = export_at(object).next_returned;
        free_export(object);
        lock.commit();
    }
    for (; own.first_export != NO_RECORD && left != 0; --left) {
        const u32 object = own.first_export;
        unlink_from_owner(object);
        export_at(object).owner = 0;
        ++sharing().orphans;
        lock.commit();
    }
    // Whoever waits for it finds out.
    wake(words_of(client, Sleep::departures));
    for (u32 i = 1; left != 0 && i <= context().max_clients; ++i) {
        ShareClient& other = share_client(i);
        if (other.open != 0 && other.arrival_waiters.load(std::memory_order_seq_cst) != 0)
            wake(words_of(i, Sleep::arrivals));
    }
    return {.status = left == 0 ? Status::ok : Status::miss};
}

/// Of a client. (The host asks for some of the others on behalf of nobody.)
bool is_client(Caller caller) {
    return caller.client != 0 && caller.client <= context().max_clients;
}

/// What changes under one lock from beginning to end.
template <class O>
[[gnu::always_inline]] inline typename O::Reply within_lock(Caller caller, const O& o) {
    if (!is_client(caller)) return {.status = Status::gone};
    SharingLock lock(caller);
    if (!lock.is_sound()) return {.status = Status::poisoned};
    return perform_locked(caller.client, o, lock);
}

}  // namespace

op::Open::Reply perform(Caller caller, const op::Open& o) { return within_lock(caller, o); }

op::Send::Reply perform(Caller caller, const op::Send& o) {
    if (shares_between_nodes() && is_elsewhere(o.to) && is_client(caller))
        return send_away(caller, o);
    return within_lock(caller, o);
}

op::Receive::Reply perform(Caller caller, const op::Receive& o) {
    const op::Receive::Reply reply = within_lock(caller, o);
    if (reply.status != Status::miss || !shares_between_nodes()) return reply;
    return receive_from_away(caller, o);
}

op::Reference::Reply perform(Caller caller, const op::Reference& o) {
    return within_lock(caller, o);
}

op::Drop::Reply perform(Caller caller, const op::Drop& o) {
    const u32 waited = sharing().deferred.count.load(std::memory_order_relaxed);
    const op::Drop::Reply reply = within_lock(caller, o);
    if (shares_between_nodes() && is_client(caller)) after_drop(caller, waited);
    return reply;
}

op::Query::Reply perform(Caller caller, const op::Query& o) { return within_lock(caller, o); }

op::TakeReturned::Reply perform(Caller caller, const op::TakeReturned& o) {
    return within_lock(caller, o);
}

op::AddRecords::Reply perform(Caller caller, const op::AddRecords& o) {
    return within_lock(caller, o);
}

op::Watch::Reply perform(Caller caller, const op::Watch& o) { return within_lock(caller, o); }

op::Leave::Reply perform(Caller caller, const op::Leave& o) { return within_lock(caller, o); }

op::Settle::Reply perform(Caller caller, const op::Settle& o) {
    if (caller.client > context().max_clients) return {.status = Status::gone};
    return give_up_lingering(caller, !o.own_only);
}

op::Tidy::Reply perform(Caller caller, const op::Tidy&) {
    if (caller.client > context().max_clients) return {.status = Status::gone};
    if (shares_between_nodes()) tidy_rings(caller);
    return give_up_lingering(caller, true);
}

op::FinishAway::Reply perform(Caller caller, const op::FinishAway& o) {
    if (caller.client > context().max_clients) return {.status = Status::gone};
    return shares_between_nodes() ? finish_away(caller, o) : Done{};
}

op::MakeGroup::Reply perform(Caller caller, const op::MakeGroup& o) {
    return within_lock(caller, o);
}

op::FindGroup::Reply perform(Caller caller, const op::FindGroup& o) {
    return within_lock(caller, o);
}

op::ExtendGroup::Reply perform(Caller caller, const op::ExtendGroup& o) {
    return within_lock(caller, o);
}

op::SetRoot::Reply perform(Caller caller, const op::SetRoot& o) { return within_lock(caller, o); }

op::SetWriter::Reply perform(Caller caller, const op::SetWriter& o) {
    return within_lock(caller, o);
}

op::TakeGroup::Reply perform(Caller caller, const op::TakeGroup& o) {
    return within_lock(caller, o);
}

op::CountUnknown::Reply perform(Caller caller, const op::CountUnknown& o) {
    return within_lock(caller, o);
}

}  // namespace aep
