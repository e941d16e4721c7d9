// Purpose: see share_ops.hpp.
// Who calls it: see share_ops.hpp.
// Crash rule: see share_ops.hpp.
#include "dsm-core/sharing/share_ops.hpp"

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/crash_points.hpp"

namespace aep {
namespace {

/// Holders and exports that one `leave` deals with: the lock is everybody's.
constexpr u32 LEAVE_STEP = 64;

void wake(std::atomic<u32>& sequence, const std::atomic<u32>& waiters) {
    // seq_cst: a waiter raises `waiters` and then reads the sequence; one of us sees the other.
    sequence.fetch_add(1, std::memory_order_seq_cst);
    if (waiters.load(std::memory_order_seq_cst) != 0) {
        detail::futex(&sequence, detail::FUTEX_WAKE, ~0u >> 1);
    }
}

bool is_open(ShareId id) {
    if (id.client() == 0 || id.client() > context().max_clients) return false;
    const ShareClient& c = share_client(id.client());
    return c.open != 0 && c.generation == id.generation();
}

ShareId id_of(u32 client) { return ShareId::make(client, share_client(client).generation); }

// ---- records

bool records_left(u32 exports, u32 holders) {
    const ShareHeader& s = sharing();
    return (exports == 0 || s.free_exports != NO_RECORD ||
            s.exports_used + 1 < s.exports_present) &&
           (holders == 0 || s.free_holders != NO_RECORD || s.holders_used + 1 < s.holders_present);
}

u32 new_export() {
    ShareHeader& s = sharing();
    ++s.live_exports;
    if (s.free_exports == NO_RECORD) return ++s.exports_used;
    const u32 index = s.free_exports;
    s.free_exports = export_at(index).next;
    return index;
}

u32 new_holder() {
    ShareHeader& s = sharing();
    ++s.live_holders;
    if (s.free_holders == NO_RECORD) return ++s.holders_used;
    const u32 index = s.free_holders;
    s.free_holders = holder_at(index).next;
    return index;
}

// ---- exports

u32 find_export(u64 address) {
    u32 index = export_bucket(address);
    while (index != NO_RECORD && export_at(index).address != address) index = export_at(index).next;
    return index;
}

void unlink_from_bucket(u32 index) {
    u32* link = &export_bucket(export_at(index).address);
    while (*link != index) link = &export_at(*link).next;
    *link = export_at(index).next;
}

void unlink_from_owner(u32 index) {
    Export& e = export_at(index);
    if (e.previous_of_owner != NO_RECORD) {
        export_at(e.previous_of_owner).next_of_owner = e.next_of_owner;
    } else {
        share_client(e.owner).first_export = e.next_of_owner;
    }
    if (e.next_of_owner != NO_RECORD) {
        export_at(e.next_of_owner).previous_of_owner = e.previous_of_owner;
    }
}

u32 make_export(u32 client, u64 address, u64 bytes) {
    const u32 index = new_export();
    ShareClient& owner = share_client(client);
    u32& bucket = export_bucket(address);
    export_at(index) = {.address = address,
                        .bytes = bytes,
                        .state = static_cast<u32>(ExportState::live),
                        .owner = client,
                        .references = 0,
                        .first_holder = NO_RECORD,
                        .next = bucket,
                        .next_of_owner = owner.first_export,
                        .previous_of_owner = NO_RECORD,
                        .next_returned = NO_RECORD};
    bucket = index;
    if (owner.first_export != NO_RECORD) export_at(owner.first_export).previous_of_owner = index;
    owner.first_export = index;
    const ChunkSpan span = chunks_of(address, bytes);
    for (u32 c = span.first; c < span.end; ++c) {
        chunk_exports(c).fetch_add(1, std::memory_order_relaxed);
    }
    AEP_SHARE_CRASH_POINT("share: export made");
    return index;
}

/// The export is gone; its memory is the business of whoever calls this.
void free_export(u32 index) {
    Export& e = export_at(index);
    unlink_from_bucket(index);
    if (e.owner != 0) {
        unlink_from_owner(index);
    } else {
        --sharing().orphans;
    }
    const ChunkSpan span = chunks_of(e.address, e.bytes);
    for (u32 c = span.first; c < span.end; ++c) {
        // seq_cst: recovery marks a chunk as kept and then reads the count; one of us sees the
        // other and gives the chunk to the cache.
        if (chunk_exports(c).fetch_sub(1, std::memory_order_seq_cst) == 1) give_kept_chunk(c);
    }
    e = {};
    e.next = sharing().free_exports;
    sharing().free_exports = index;
    --sharing().live_exports;
    AEP_SHARE_CRASH_POINT("share: export removed");
}

/// Takes `count` references away. True: the last one is gone.
bool take_references(u32 index, u32 count) {
    Export& e = export_at(index);
    e.references -= count;
    AEP_SHARE_CRASH_POINT("share: reference dropped");
    return e.references == 0;
}

/// An export without references: to its owner, or away with it.
void dispose(u32 index) {
    Export& e = export_at(index);
    if (e.owner == 0 || share_client(e.owner).open == 0) return free_export(index);
    ShareClient& owner = share_client(e.owner);
    e.state = static_cast<u32>(ExportState::returned);  // found, but held by nobody
    e.next_returned = owner.first_returned;
    owner.first_returned = index;
}

// ---- holders

u32 find_holder(u32 client, u32 object) {
    u32 index = export_at(object).first_holder;
    while (index != NO_RECORD && holder_at(index).client != client) index = holder_at(index).next;
    return index;
}

/// One more reference for the client. Needs a record unless it holds one already.
void hold(u32 client, u32 object) {
    if (const u32 found = find_holder(client, object); found != NO_RECORD) {
        ++holder_at(found).count;
        return;
    }
    const u32 index = new_holder();
    ShareClient& c = share_client(client);
    Export& e = export_at(object);
    holder_at(index) = {.client = client,
                        .object = object,
                        .count = 1,
                        .next = e.first_holder,
                        .next_of_client = c.first_holder,
                        .previous_of_client = NO_RECORD};
    e.first_holder = index;
    if (c.first_holder != NO_RECORD) holder_at(c.first_holder).previous_of_client = index;
    c.first_holder = index;
    AEP_SHARE_CRASH_POINT("share: holder made");
}

void free_holder(u32 index) {
    Holder& h = holder_at(index);
    u32* link = &export_at(h.object).first_holder;
    while (*link != index) link = &holder_at(*link).next;
    *link = h.next;
    if (h.previous_of_client != NO_RECORD) {
        holder_at(h.previous_of_client).next_of_client = h.next_of_client;
    } else {
        share_client(h.client).first_holder = h.next_of_client;
    }
    if (h.next_of_client != NO_RECORD) {
        holder_at(h.next_of_client).previous_of_client = h.previous_of_client;
    }
    h = {};
    h.next = sharing().free_holders;
    sharing().free_holders = index;
    --sharing().live_holders;
}

/// The export of an object that the client holds, or that lies in its own heap and has not been
/// sent so far (then it becomes an export, with the owner's reference). Nothing changes unless ok.
Status find_held(u32 client, u64 address, u64 bytes, u32& object) {
    object = find_export(address);
    if (object != NO_RECORD) {
        return find_holder(client, object) != NO_RECORD ? Status::ok : Status::not_held;
    }
    if (!in_heap_window(address) || bytes == 0 || bytes > HEAP_WINDOW - (address - HEAP_BASE)) {
        return Status::not_held;
    }
    const ChunkSpan span = chunks_of(address, bytes);
    for (u32 c = span.first; c < span.end; ++c) {
        if (c >= context().chunk_count ||
            chunk_owner(c).load(std::memory_order_relaxed) != client) {
            return Status::not_held;
        }
    }
    if (!records_left(1, 1)) return Status::need_records;
    object = make_export(client, address, bytes);
    hold(client, object);
    export_at(object).references = 1;
    return Status::ok;
}

// ---- operations

Reply open(u32 client, const Request& r) {
    const u64 words[] = {r.a, r.b, r.now, r.mask};
    char name[SHARE_NAME_BYTES];
    static_assert(sizeof words == sizeof name);
    __builtin_memcpy(name, words, sizeof name);
    name[SHARE_NAME_BYTES - 1] = '\0';
    ShareClient& own = share_client(client);
    for (u32 i = 1; i <= context().max_clients && name[0] != '\0'; ++i) {
        if (i != client && is_called(share_client(i), name)) return {.status = Status::exists};
    }
    // Its predecessor may have died waiting. Those who wait for room are others.
    if (own.open == 0) own.arrival_waiters.store(0, std::memory_order_relaxed);
    own.generation = client_at(client).generation.load(std::memory_order_relaxed);
    __builtin_memcpy(own.name, name, sizeof name);
    own.open = 1;
    return {};
}

Reply send(u32 client, const Request& r) {
    const ShareId to{r.b};
    if (!is_open(to) || share_client(client).open == 0) return {.status = Status::gone};
    ShareClient& receiver = share_client(to.client());
    if (receiver.messages == MAILBOX_MESSAGES) return {.status = Status::full};
    u32 object = NO_RECORD;
    const Status status = find_held(client, r.a, r.mask, object);
    if (status != Status::ok) return {.status = status};
    const u32 place = (receiver.first_message + receiver.messages) % MAILBOX_MESSAGES;
    mailbox_of(to.client())[place] = {object, client, share_client(client).generation, 0};
    ++export_at(object).references;
    AEP_SHARE_CRASH_POINT("share: message laid down");
    ++receiver.messages;
    ++sharing().sent;
    wake(receiver.arrivals, receiver.arrival_waiters);
    return {};
}

/// The place of the oldest message, from anybody or from `from`; MAILBOX_MESSAGES: none.
u32 find_message(u32 client, ShareId from) {
    const ShareClient& own = share_client(client);
    for (u32 i = 0; i < own.messages; ++i) {
        const Message& m = mailbox_of(client)[(own.first_message + i) % MAILBOX_MESSAGES];
        if (from.bits == 0 || ShareId::make(m.sender, m.sender_generation).bits == from.bits) {
            return i;
        }
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
    at(0) = {};
    own.first_message = (own.first_message + 1) % MAILBOX_MESSAGES;
    --own.messages;
    AEP_SHARE_CRASH_POINT("share: message taken");
    return taken;
}

Reply receive(u32 client, const Request& r) {
    ShareClient& own = share_client(client);
    if (own.open == 0) return {.status = Status::gone};
    const ShareId from{r.b};
    const u32 place = find_message(client, from);
    if (place == MAILBOX_MESSAGES) {
        const bool hopeless = from.bits != 0 && !is_open(from);
        return {.status = hopeless ? Status::gone : Status::miss};
    }
    if (!records_left(0, 1)) return {.status = Status::need_records};
    const Message m = take_message(client, place);
    hold(client, m.object);  // the message's reference is the client's now
    ++sharing().received;
    wake(own.departures, own.departure_waiters);
    const Export& e = export_at(m.object);
    return {.value = e.address,
            .mask = e.bytes,
            .extra = ShareId::make(m.sender, m.sender_generation).bits};
}

Reply reference(u32 client, const Request& r) {
    if (share_client(client).open == 0) return {.status = Status::gone};
    u32 object = NO_RECORD;
    const Status status = find_held(client, r.a, r.mask, object);
    if (status != Status::ok) return {.status = status};
    hold(client, object);
    ++export_at(object).references;
    return {};
}

Reply drop(u32 client, const Request& r) {
    const u32 object = find_export(r.a);
    if (object == NO_RECORD) return {.status = Status::miss};
    const u32 holder = find_holder(client, object);
    if (holder == NO_RECORD) return {.status = Status::not_held};
    if (--holder_at(holder).count == 0) free_holder(holder);
    if (!take_references(object, 1)) return {};
    const bool own = export_at(object).owner == client;
    if (own) {
        free_export(object);
    } else {
        dispose(object);
    }
    return {.mask = own};
}

Reply query(u32 client, const Request& r) {
    const u32 object = find_export(r.a);
    if (object == NO_RECORD) return {.status = Status::miss};
    const u32 holder = find_holder(client, object);
    const Export& e = export_at(object);
    return {.value = e.references,
            .mask = e.bytes,
            .extra = holder == NO_RECORD ? 0 : holder_at(holder).count};
}

Reply take_returned(u32 client) {
    ShareClient& own = share_client(client);
    const u32 object = own.first_returned;
    if (object == NO_RECORD) return {.status = Status::miss};
    const u64 address = export_at(object).address;
    own.first_returned = export_at(object).next_returned;
    free_export(object);
    return {.value = address};
}

Reply add_records(const Request& r) {
    ShareHeader& s = sharing();
    if (r.a > MAX_EXPORTS || r.b > MAX_HOLDERS) return {.status = Status::limit};
    if (r.a > s.exports_present) s.exports_present = static_cast<u32>(r.a);
    if (r.b > s.holders_present) s.holders_present = static_cast<u32>(r.b);
    return {};
}

/// First it takes part no more; then its messages, its references, its exports.
Reply leave(u32 client) {
    ShareClient& own = share_client(client);
    own.open = 0;
    own.name[0] = '\0';
    u32 left = LEAVE_STEP;
    for (; own.messages != 0 && left != 0; --left) {
        const u32 object = take_message(client, 0).object;
        if (take_references(object, 1)) dispose(object);
    }
    for (; own.first_holder != NO_RECORD && left != 0; --left) {
        const u32 holder = own.first_holder;
        const u32 object = holder_at(holder).object;
        const u32 count = holder_at(holder).count;
        free_holder(holder);
        if (take_references(object, count)) dispose(object);
    }
    for (; own.first_returned != NO_RECORD && left != 0; --left) {
        const u32 object = own.first_returned;
        own.first_returned = export_at(object).next_returned;
        free_export(object);
    }
    for (; own.first_export != NO_RECORD && left != 0; --left) {
        const u32 object = own.first_export;
        unlink_from_owner(object);
        export_at(object).owner = 0;
        ++sharing().orphans;
    }
    // Whoever waits for it finds out.
    wake(own.departures, own.departure_waiters);
    for (u32 i = 1; left != 0 && i <= context().max_clients; ++i) {
        ShareClient& other = share_client(i);
        if (other.open != 0 && other.arrival_waiters.load(std::memory_order_seq_cst) != 0) {
            wake(other.arrivals, other.arrival_waiters);
        }
    }
    return {.status = left == 0 ? Status::ok : Status::miss};
}

/// One operation at a time; walks see by the version that one was under way.
struct Alone {
    LockScope scope{sharing().lock};
    Alone() {
        sharing().version.fetch_add(1, std::memory_order_relaxed);
        // release: whoever sees a change that follows sees the odd version.
        std::atomic_thread_fence(std::memory_order_release);
    }
    ~Alone() { sharing().version.fetch_add(1, std::memory_order_release); }
};

}  // namespace

Reply perform_share(u32 client, ShareOp op, const Request& r) {
    if (client == 0 || client > context().max_clients) return {.status = Status::gone};
    const Alone alone;
    switch (op) {
        case ShareOp::open:
            return open(client, r);
        case ShareOp::send:
            return send(client, r);
        case ShareOp::receive:
            return receive(client, r);
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
        case ShareOp::leave:
            return leave(client);
        case ShareOp::end:
            break;
    }
    return {.status = Status::no_such_op};
}

}  // namespace aep
