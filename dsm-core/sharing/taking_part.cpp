// Purpose: see taking_part.hpp.
// Who calls it: see taking_part.hpp.
// Crash rule: see taking_part.hpp.
#include "dsm-core/sharing/taking_part.hpp"

#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/inbox_ops.hpp"
#include "dsm-core/sharing/peers.hpp"
#include "dsm-core/sharing/topic_ops.hpp"

namespace aep {
namespace {

void set_name(ShareClient& client, const ShareName& name) {
    u64 words[SHARE_NAME_BYTES / sizeof(u64)];
    __builtin_memcpy(words, name.text, sizeof words);
    for (usize i = 0; i < SHARE_NAME_BYTES / sizeof(u64); ++i) client.name_words[i] = words[i];
}

/// Changes who takes part under which name, for a scope: lookups without the lock see it.
class NamesChange {
  public:
    NamesChange() {
        step();
        // release: whoever sees a change that follows sees the odd version.
        std::atomic_thread_fence(std::memory_order_release);
    }
    ~NamesChange() { step(); }
    NamesChange(const NamesChange&) = delete;
    NamesChange& operator=(const NamesChange&) = delete;

  private:
    static void step() {
        std::atomic<u64>& version = sharing().names_version;  // under the lock of names
        version.store(version.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }
};

/// Whether both are the same name, or none.
bool is_same(const char* a, const char* b) {
    return same_name(a, b) || (a[0] == '\0' && b[0] == '\0');
}

/// Whether another client of this node has the name. Under the lock of names.
bool is_name_of_another(u32 client, const char* name) {
    for (u32 i = 1; i <= context().max_clients && name[0] != '\0'; ++i)
        if (i != client && is_called(share_client(i), name)) return true;
    return false;
}

/// First it takes part no more. `died`: since its process has ended.
bool close(Turn& turn, u32 client, bool died) {
    ShareClient& own = share_client(client);
    if (!turn.names() || !turn.client(client) || !turn.inbox(client)) return false;
    const bool took_part = own.takes_part();
    {
        const NamesChange change;
        own.inbox.open = 0;
        own.sends_as = 0;
        own.name_words[0] = 0;
    }
    if (took_part) stay_ends(client, died);
    if (shares_between_nodes()) announce(client);
    turn.let_go();
    tell_that_it_is_closed(client);
    return close_further(turn, client);
}

/// All its references to an object go. Locked::nothing: it has none.
Locked leave_one(Turn& turn, u32 client) {
    LockList locks;
    locks.add_client(0);
    locks.add_client(client);
    locks.add_inbox(client);
    u32 object = NO_RECORD, count = 0, holder = NO_RECORD;
    const Locked locked =
        lock_to_release(turn, client, locks, false, [&](u32& index, u32& references) {
            holder = any_holder(client);
            if (holder == NO_RECORD) return false;
            index = object = holder_at(holder).object;
            references = count = weight_of(holder_at(holder));
            return true;
        });
    if (locked != Locked::yes) return locked;
    free_holder(client, holder);
    if (take_references(object, count) && !dispose(turn, client, object)) return Locked::given_up;
    turn.let_go();
    return Locked::yes;
}

/// One of the exports of a client that has no references and no returned ones has no owner any more. With its inbox.
Locked leave_orphan(Turn& turn, u32 client) {
    const u32 index = share_client(client).first_export;
    if (index == NO_RECORD) return Locked::nothing;
    // An extent's owner is its group's business; and that leaves a group with its client's lock alone.
    const u32 group = export_at(index).group.load();
    const u32 locked = is_record(group) ? group : index;
    if (!turn.object(locked)) return Locked::given_up;
    const Export& e = export_at(index);
    const bool same = e.group.load() == group;
    // Returned meanwhile? No: that takes its owner's inbox.
    if (same) make_orphan(index);
    turn.let_go();
    return Locked::yes;
}

}  // namespace

op::Open::Reply open_client(Caller caller, const op::Open& o) {
    const u32 client = caller.client;
    ShareName name = o.name;
    name.text[SHARE_NAME_BYTES - 1] = '\0';
    const bool among_nodes = shares_between_nodes() && name.text[0] != '\0';
    bool claims = false;
    u64 claim = 0;
    if (among_nodes) {
        Turn turn(caller);
        if (!turn.names() || !turn.client(client)) return {.status = Status::poisoned};
        if (is_name_of_another(client, name.text)) return {.status = Status::exists};
        // Who has it already would give way to others who want it, and tell them that it has it.
        claims = !is_called(share_client(client), name.text);
        if (claims) claim = begin_claim(client, name.text);
    }
    const bool granted = !claims || may_have_claimed(client, name.text);  // waits, with no lock
    Turn turn(caller);
    if (!turn.names() || !turn.client(client) || !turn.inbox(client))
        return {.status = Status::poisoned};
    // Another thread of the client's opens it.
    const bool as_left = claims ? still_claims(client, claim)
                                : !among_nodes || is_called(share_client(client), name.text);
    if (!as_left) return {.status = Status::exists};
    if (!granted || is_name_of_another(client, name.text)) {
        if (claims) announce(client);  // as it was
        return {.status = Status::exists};
    }
    ShareClient& own = share_client(client);
    Inbox& inbox = own.inbox;
    const u32 generation = client_at(client).generation.load(std::memory_order_relaxed);
    // Its predecessor may have died waiting. Those who wait for room are others.
    if (inbox.generation != generation) inbox.arrival_waiters.store(0, std::memory_order_relaxed);
    const bool took_part = inbox.open != 0;
    const bool renamed = took_part && !is_same(own.name().text, name.text);
    if (!took_part) {
        inbox.watched = 0;
        inbox.client = client;
        inbox.most_kib = usual_most_kib();
    }
    {
        const NamesChange change;
        inbox.generation = generation;
        set_name(own, name);
        inbox.open = 1;
        own.sends_as = u64{generation} + 1;
    }
    if (o.barriers && context().barriers.load(std::memory_order_relaxed) != 0)
        own.lock.allow_bias(caller.slot);
    if (!took_part)
        stay_begins(client);
    else if (renamed)
        name_changes(client);
    if (shares_between_nodes()) announce(client);
    return {};
}

op::CloseInbox::Reply stop_taking_part(Caller caller) {
    const u32 client = caller.client;
    Turn turn(caller);
    u32 left = LEAVE_STEP;
    if (!close(turn, client, false)) return {.status = Status::poisoned};
    Locked done = empty_inboxes(turn, client, left);
    if (done == Locked::nothing) done = close_topics(turn, client, left);
    if (done == Locked::given_up) return {.status = Status::poisoned};
    wake_all_receivers();
    return {.status = done == Locked::nothing ? Status::miss : Status::ok};
}

op::Leave::Reply leave_client(Caller caller) {
    const u32 client = caller.client;
    Turn turn(caller);
    if (!close(turn, client, true)) return {.status = Status::poisoned};
    u32 left = LEAVE_STEP;
    Locked done = empty_inboxes(turn, client, left);
    if (done == Locked::nothing) done = close_topics(turn, client, left);
    while (left != 0 && done != Locked::given_up && (done = leave_one(turn, client)) == Locked::yes)
        --left;
    turn.let_go();
    // While others drop theirs, more are returned.
    while (left != 0 && done != Locked::given_up) {
        if (!turn.clients(0, client)) return {.status = Status::poisoned};
        u64 address = 0;
        done = remove_returned(turn, client, address);
        if (done == Locked::nothing) done = leave_orphan(turn, client);
        if (done == Locked::nothing) break;
        turn.let_go();
        --left;
    }
    if (done == Locked::given_up) return {.status = Status::poisoned};
    if (left == 0) return {.status = Status::ok};
    turn.let_go();
    if (!turn.client(client)) return {.status = Status::poisoned};
    share_client(client).lock.forbid_bias();
    give_supply_up(turn, client);
    wake_all_receivers();
    return {.status = Status::miss};
}

}  // namespace aep
