// Purpose: see taking_part.hpp.
// Who calls it: see taking_part.hpp.
// Crash rule: see taking_part.hpp.
#include "dsm-core/sharing/taking_part.hpp"

#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/disposal.hpp"
#include "dsm-core/sharing/inbox.hpp"

namespace aep {
namespace {

/// Holders and exports that one `leave` deals with: some tenths of a millisecond. A step is asked of a completer, which takes as long.
constexpr u32 LEAVE_STEP = 4096;

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

/// Whether another client of this node has the name. Under the lock of names.
bool is_name_of_another(u32 client, const char* name) {
    for (u32 i = 1; i <= context().max_clients && name[0] != '\0'; ++i)
        if (i != client && is_called(share_client(i), name)) return true;
    return false;
}

/// First it takes part no more.
bool close(Turn& turn, u32 client) {
    ShareClient& own = share_client(client);
    if (!turn.names() || !turn.client(client) || !turn.inbox(client)) return false;
    {
        const NamesChange change;
        own.open = 0;
        own.name_words[0] = 0;
    }
    if (shares_between_nodes()) announce(client);
    turn.let_go();
    return true;
}

/// One of its references goes: a message's, or all that it has to an object. Locked::nothing: it has none.
Locked leave_one(Turn& turn, u32 client) {
    ShareClient& own = share_client(client);
    LockList locks;
    locks.add_client(0);
    locks.add_client(client);
    locks.add_inbox(client);
    u32 object = NO_RECORD, count = 0, holder = NO_RECORD;
    const Locked locked =
        lock_to_release(turn, client, locks, false, [&](u32& index, u32& references) {
            holder = NO_RECORD;
            if (own.messages != 0) {
                const u32 first = own.first_message % MAILBOX_MESSAGES;
                object = mailbox_of(client)[first].object;
                count = 1;
            } else if ((holder = any_holder(client)) != NO_RECORD) {
                object = holder_at(holder).object;
                count = weight_of(holder_at(holder));
            } else {
                return false;
            }
            index = object;
            references = count;
            return true;
        });
    if (locked != Locked::yes) return locked;
    if (holder != NO_RECORD)
        free_holder(client, holder);
    else
        take_message(client, 0);
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
    const bool claims = shares_between_nodes() && name.text[0] != '\0';
    u64 claim = 0;
    if (claims) {
        Turn turn(caller);
        if (!turn.names() || !turn.client(client)) return {.status = Status::poisoned};
        if (is_name_of_another(client, name.text)) return {.status = Status::exists};
        claim = begin_claim(client, name.text);
    }
    const bool granted = !claims || may_have_claimed(client, name.text);  // waits, with no lock
    Turn turn(caller);
    if (!turn.names() || !turn.client(client) || !turn.inbox(client))
        return {.status = Status::poisoned};
    // Another thread of the client's opens it.
    if (claims && !still_claims(client, claim)) return {.status = Status::exists};
    if (!granted || is_name_of_another(client, name.text)) {
        if (claims) announce(client);  // as it was
        return {.status = Status::exists};
    }
    ShareClient& own = share_client(client);
    if (own.open == 0) {
        // Its predecessor may have died waiting. Those who wait for room are others.
        own.arrival_waiters.store(0, std::memory_order_relaxed);
        own.watched = 0;
    }
    {
        const NamesChange change;
        own.generation = client_at(client).generation.load(std::memory_order_relaxed);
        set_name(own, name);
        own.open = 1;
    }
    if (o.barriers && context().barriers.load(std::memory_order_relaxed) != 0)
        own.lock.allow_bias(caller.slot);
    if (shares_between_nodes()) announce(client);
    return {};
}

op::Leave::Reply leave_client(Caller caller) {
    const u32 client = caller.client;
    Turn turn(caller);
    if (!close(turn, client)) return {.status = Status::poisoned};
    u32 left = LEAVE_STEP;
    Locked done = Locked::yes;
    for (; left != 0 && (done = leave_one(turn, client)) == Locked::yes;) --left;
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
    // Whoever waits for it finds out.
    wake(words_of(client, Sleep::departures));
    if (left == 0) return {.status = Status::ok};
    turn.let_go();
    if (!turn.client(client)) return {.status = Status::poisoned};
    share_client(client).lock.forbid_bias();
    give_supply_up(turn, client);
    for (u32 i = 1; i <= context().max_clients; ++i) {
        ShareClient& other = share_client(i);
        if (other.open.load() != 0 && other.arrival_waiters.load(std::memory_order_seq_cst) != 0)
            wake(words_of(i, Sleep::arrivals));
    }
    return {.status = Status::miss};
}

}  // namespace aep
