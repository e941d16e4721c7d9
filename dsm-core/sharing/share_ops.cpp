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

void set_name(ShareClient& client, const char (&name)[SHARE_NAME_BYTES]) {
    u64 words[SHARE_NAME_BYTES / sizeof(u64)];
    __builtin_memcpy(words, name, sizeof words);
    for (usize i = 0; i < SHARE_NAME_BYTES / sizeof(u64); ++i) client.name_words[i] = words[i];
}

// ---- operations

ShareReply open(u32 client, const ShareRequest& r) {
    const u64 words[] = {r.a, r.b, r.now, r.mask};
    char name[SHARE_NAME_BYTES];
    static_assert(sizeof words == sizeof name);
    __builtin_memcpy(name, words, sizeof name);
    name[SHARE_NAME_BYTES - 1] = '\0';
    ShareClient& own = share_client(client);
    const bool anew = own.open == 0;
    for (u32 i = 1; i <= context().max_clients && name[0] != '\0'; ++i) {
        if (i != client && is_called(share_client(i), name)) return {.status = Status::exists};
    }
    if (shares_between_nodes() && name[0] != '\0' && !claim_name(client, name)) {
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

ShareReply send(u32 client, const ShareRequest& r, SharingLock& lock) {
    const ShareId to{r.b};
    if (!is_open(to) || share_client(client).open == 0) return {.status = Status::gone};
    ShareClient& receiver = share_client(to.client());
    if (receiver.messages == MAILBOX_MESSAGES) return {.status = Status::full};
    u32 object = NO_RECORD;
    const Status status = find_held(client, r.a, r.mask, object);
    if (status != Status::ok) return {.status = status};
    const u32 place = (receiver.first_message + receiver.messages) % MAILBOX_MESSAGES;
    write_unreached(mailbox_of(to.client())[place], {object, id_of(client).bits});
    ++export_at(object).references;
    AEP_SHARE_CRASH_POINT("share: message laid down");
    ++receiver.messages;
    ++sharing().sent;
    lock.wake_after(to.client(), Sleep::arrivals);
    // Who watches raises `arrival_waiters` and then reads `arrivals`: one of us sees the other.
    if (AEP_UNLIKELY(receiver.watched != 0)) std::atomic_thread_fence(std::memory_order_seq_cst);
    return {};
}

ShareReply watch(u32 client) {
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

/// Takes the message out; older ones move up.
Message take_message(u32 client, u32 i) {
    ShareClient& own = share_client(client);
    Message* box = mailbox_of(client);
    const auto at = [&](u32 n) -> Message& {
        return box[(own.first_message + n) % MAILBOX_MESSAGES];
    };
    const Message taken = at(i);
    for (; i != 0; --i) at(i) = at(i - 1);
    own.first_message = (own.first_message + 1) % MAILBOX_MESSAGES;
    --own.messages;
    AEP_SHARE_CRASH_POINT("share: message taken");
    return taken;
}

ShareReply receive(u32 client, const ShareRequest& r, SharingLock& lock) {
    ShareClient& own = share_client(client);
    if (own.open == 0) return {.status = Status::gone};
    const ShareId from{r.b};
    const u32 place = find_message(client, from);
    if (place == MAILBOX_MESSAGES) {
        const bool hopeless = from.bits != 0 && !is_elsewhere(from) && !is_open(from);
        return {.status = hopeless ? Status::gone : Status::miss};
    }
    if (!records_left(0, 1)) return {.status = Status::need_records};
    const bool was_full = own.messages == MAILBOX_MESSAGES;
    const Message m = take_message(client, place);
    const u32 object = static_cast<u32>(m.object);
    hold(client, object);  // the message's reference is the client's now
    ++sharing().received;
    if (was_full) lock.wake_after(client, Sleep::departures);
    const Export& e = export_at(object);
    return {.value = e.address, .mask = is_group(object) ? 0 : u64{e.bytes}, .extra = m.sender};
}

ShareReply reference(u32 client, const ShareRequest& r) {
    if (share_client(client).open == 0) return {.status = Status::gone};
    u32 object = NO_RECORD;
    const Status status = find_held(client, r.a, r.mask, object);
    if (status != Status::ok) return {.status = status};
    hold(client, object);
    ++export_at(object).references;
    return {};
}

ShareReply drop(u32 client, const ShareRequest& r) {
    const u32 object = find_export(r.a);
    if (object == NO_RECORD) return {.status = Status::miss};
    const u32 holder = find_holder(client, object);
    if (holder == NO_RECORD) return {.status = Status::not_held};
    const bool group = is_group(object);
    const u64 forgotten =
        group && holder_at(holder).count == 1 ? u64{export_at(object).address} : 0;
    if (--holder_at(holder).count == 0) free_holder(holder);
    if (!take_references(object, 1)) return {.value = forgotten};
    const Export& e = export_at(object);
    const bool own = e.owner == client && !group && e.node_ref == NodeRef::none && e.pins == 0;
    if (own) {
        free_export(object);
    } else {
        dispose(object);
    }
    return {.value = forgotten, .mask = own};
}

ShareReply query(u32 client, const ShareRequest& r) {
    const u32 object = find_export(r.a);
    if (object == NO_RECORD) return {.status = Status::miss};
    const u32 holder = find_holder(client, object);
    const Export& e = export_at(object);
    return {.value = e.references + references_elsewhere(e),
            .mask = e.bytes,
            .extra = holder == NO_RECORD ? 0 : u64{holder_at(holder).count}};
}

ShareReply take_returned(u32 client) {
    ShareClient& own = share_client(client);
    const u32 object = own.first_returned;
    if (object == NO_RECORD) return {.status = Status::miss};
    const u64 address = export_at(object).address;
    own.first_returned = export_at(object).next_returned;
    free_export(object);
    return {.value = address};
}

ShareReply add_records(const ShareRequest& r) {
    ShareHeader& s = sharing();
    if (r.a > MAX_EXPORTS || r.b > MAX_HOLDERS) return {.status = Status::limit};
    if (r.a > s.exports_present) s.exports_present = static_cast<u32>(r.a);
    if (r.b > s.holders_present) s.holders_present = static_cast<u32>(r.b);
    return {};
}

/// First it takes part no more; then its messages, its references, its exports. Each of them is
/// one change; what comes of a change that is undone is done when this is asked for again.
ShareReply leave(u32 client, SharingLock& lock) {
    ShareClient& own = share_client(client);
    own.open = 0;
    own.name_words[0] = 0;
    if (shares_between_nodes()) announce(client);
    lock.commit();
    u32 left = LEAVE_STEP;
    for (; own.messages != 0 && left != 0; --left) {
        const u32 object = static_cast<u32>(take_message(client, 0).object);
        if (take_references(object, 1)) dispose(object);
        lock.commit();
    }
    for (; own.first_holder != NO_RECORD && left != 0; --left) {
        const u32 holder = own.first_holder;
        const u32 object = holder_at(holder).object;
        const u32 count = holder_at(holder).count;
        free_holder(holder);
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
        if (other.open != 0 && other.arrival_waiters.load(std::memory_order_seq_cst) != 0) {
            wake(words_of(i, Sleep::arrivals));
        }
    }
    return {.status = left == 0 ? Status::ok : Status::miss};
}

/// What changes under one lock from beginning to end.
ShareReply perform_alone(Caller caller, ShareOp op, const ShareRequest& r) {
    const u32 client = caller.client;
    SharingLock lock(caller);
    if (!lock.is_sound()) return {.status = Status::poisoned};
    switch (op) {
        case ShareOp::open:
            return open(client, r);
        case ShareOp::send:
            return send(client, r, lock);
        case ShareOp::receive:
            return receive(client, r, lock);
        case ShareOp::reference:
            return reference(client, r);
        case ShareOp::drop:
            return drop(client, r);
        case ShareOp::query:
            return query(client, r);
        case ShareOp::take_returned:
            return take_returned(client);
        case ShareOp::add_records:
            return add_records(r);
        case ShareOp::watch:
            return watch(client);
        case ShareOp::leave:
            return leave(client, lock);
        case ShareOp::group_make:
        case ShareOp::group_find:
        case ShareOp::group_extend:
        case ShareOp::group_root:
        case ShareOp::group_writer:
            return perform_group(client, op, r);
        default:
            return {.status = Status::no_such_op};
    }
}

}  // namespace

ShareReply perform_share(Caller caller, ShareOp op, const ShareRequest& r) {
    const bool away = shares_between_nodes();
    const u32 client = caller.client;
    const bool by_host = op == ShareOp::tidy || op == ShareOp::settle || op == ShareOp::finish_away;
    if (client > context().max_clients || (client == 0 && !by_host)) {
        return {.status = Status::gone};
    }
    if (op == ShareOp::settle) return give_up_lingering(caller, r.a == 0);
    if (op == ShareOp::tidy) {
        if (away) tidy_rings(caller);
        return give_up_lingering(caller, true);
    }
    if (op == ShareOp::finish_away) return away ? finish_away(caller, r) : ShareReply{};
    if (op == ShareOp::send && away && is_elsewhere(ShareId{r.b})) return send_away(caller, r);
    const u32 waited = sharing().deferred.count.load(std::memory_order_relaxed);
    const ShareReply reply = perform_alone(caller, op, r);
    if (AEP_LIKELY(!away)) return reply;
    if (op == ShareOp::drop) after_drop(caller, waited);
    if (op == ShareOp::receive && reply.status == Status::miss) return receive_from_away(caller, r);
    return reply;
}

}  // namespace aep
