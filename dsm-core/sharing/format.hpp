// Purpose: what the clients of a context share by reference: the table of exported objects, who
//          holds references to them, and the mailboxes in which references travel.
// Who calls it: the sharing operations, the client side (names, waiting), recovery, check.
// Crash rule: all of it changes inside operations, under the locks of turn.hpp. Each of them completes, or what
//             it did is undone (logged.hpp).
//
// An object that was never sent has no entry here: sharing costs nothing until it is used. Its
// first send makes it an *export* with the owner's reference; a message holds a reference of its
// own, which becomes the receiver's. The memory stays where the owner's heap put it until the last
// reference is gone; then the owner frees it, or, if the owner is dead, its chunk goes when the
// chunk's last export does.
#pragma once

#include "dsm-core/base/biased_lock.hpp"
#include "dsm-core/context/format.hpp"
#include "dsm-core/era/flush.hpp"
#include "dsm-core/era/region.hpp"
#include "dsm-core/sharing/logged.hpp"
#include "dsm-core/sharing/topic_format.hpp"

namespace aep {

inline constexpr u32 NO_RECORD = 0;  // index 0 of both tables is never used

enum class ExportState : u32 {
    free = 0,
    live = 1,
    returned = 2,   // the last reference is gone: on its owner's list, to be freed by it
    extent = 3,     // further memory of a group, and goes with it; nobody refers to it
    root = 4,       // no memory: the address under which a group's references are counted, too
    lingering = 5,  // nobody of this node refers to it, but the node has a reference still
};

/// The node's own reference to it (the paper's NodeRef), which it has if other nodes know it.
enum class NodeRef : u8 {
    none = 0,
    taking = 1,   // an operation is getting it
    held = 2,     //
    dropping = 3  // an operation is giving it up
};

/// Owner of an export whose memory is another node's.
inline constexpr u32 OWNER_ELSEWHERE = 0xffff'ffff;

/// An object that was sent at least once and that somebody may still reach: one line, which is all that a message
/// between two clients needs of it.
struct ExportFields {
    Logged<u64> address{};
    Logged<u64> bytes{};       // that may be used
    Logged<u32> state{};       // ExportState
    Logged<u32> owner{};       // the client whose heap it lies in; 0: that client is dead
                               // OWNER_ELSEWHERE: another node's
    Logged<u32> references{};  // of clients and of messages, and those that clients have to spare
    Logged<u32> next{};        // in its bucket, or of free records
    Logged<u32> next_returned{};
    // Of groups and their parts (group_ops.hpp); 0 in all others.
    Logged<u32> group{};   // the group that it is or is a part of: index of the group's export
    Logged<u32> writer{};  // of a group: the client that may allocate in it; 0: nobody
    Logged<u32> root{};    // of a group: the record of its root's address
    // Between nodes.
    Logged<u32> object{};        // 1 + its number there; 0: none
    Logged<u16> pins{};          // operations that are at work with it without the lock
    Logged<NodeRef> node_ref{};  //
    Logged<bool> listed{};       // on one of the lists of those that linger
};
/// A record that becomes another export keeps its lock.
struct alignas(CACHE_LINE) Export : ExportFields {
    SlotLock lock;
};
static_assert(sizeof(Export) == CACHE_LINE);

/// What else there is to say of an export: what its owner, its group and its node look at.
struct ExportSide {
    Logged<u64> born{};  // of a group: which of all that there ever were; 0: it is none any more
    Logged<u32> next_of_owner{}, previous_of_owner{};
    Logged<u32> next_extent{};  // the group's extents, newest first; the list begins at the group
    Logged<u32> next_lingering{};  // on that list
    u32 reserved[2]{};
};
static_assert(sizeof(ExportSide) == 32);

/// A client's references to one export (the paper's LocalRef).
struct Holder {
    Logged<u64> address{};  // the export's, by which it is found
    Logged<u32> object{};   // index of the Export
    Logged<u32> count{};
    Logged<u32> next{};  // at the same place of the client's tree, or of free records
    Logged<u32>
        spare{};  // so many more the export counts: for what the client does next (references.hpp)
    Logged<u32> client{};  // whose it is: for who finds it without that one's lock
    u32 reserved{};
};
/// Where a client has more references than can be searched one by one, a branch leads to them by three bits of the
/// address' hash. It lies in a record of the same table.
struct Branch {
    static constexpr u32 WAYS = 8;
    Logged<u32> ways[WAYS];  // links
};
static_assert(sizeof(Holder) == 32 && sizeof(Branch) == sizeof(Holder));
/// A link of a client's tree of references: the first of several holders, or a branch, or 0.
inline constexpr u32 IS_BRANCH = u32{1} << 31;

/// A reference under way. It counts as one of the export's.
struct Message {
    Logged<u32> object;   // index of the Export; NO_RECORD: it was taken before older ones
    Logged<u32> version;  // of the label
    Logged<u64> sender;   // ShareId
    Logged<u64> tag, type;
    Label label() const { return {tag, type, version}; }
    /// Logs all of it: it is about to be written as memory.
    void keep() {
        object.keep(), version.keep(), sender.keep();
        tag.keep(), type.keep();
    }
};

inline constexpr u32 MAILBOX_MESSAGES = 512;
using era::ClientName;
static_assert(sizeof(ClientName) == SHARE_NAME_BYTES);

/// Records that a client has at hand: free ones, and such as were never used.
struct Supply {
    Logged<u32> free;       // list
    Logged<u32> next, end;  // never used: [next, end)
};

/// Where messages come to. A client has its *main* one, with the client's number, and may open *further* ones, say one a thread, whose
/// numbers begin with FIRST_FURTHER. What others lay down for the client lies in its main one, too. Under its lock, but for what is
/// said to be the client's as well.
struct alignas(CACHE_LINE) Inbox {
    /// What somebody waits for without the lock (op::Watch).
    static constexpr u32 MESSAGES_WATCHED = 1, PEERS_WATCHED = 2;

    SlotLock lock;
    Logged<u32>
        open;  // 1: it takes messages. Of a main one: from the client's first use of sharing to its death
    Logged<u32> generation;  // of all that had this number; of a main one the client entry's
    Logged<u32>
        client;  // whose it is; 0: nobody's. Of a further one: changed under that one's lock, too
    Logged<u32>
        next;  // the client's next further one, or of the main one the first: under the client's lock, too
    Logged<u32> first_message;  // place of the oldest message in the ring
    Logged<u32> messages;       // places in use from there on
    Logged<u32> gaps;           // of those such as a message was taken from before older ones
    Logged<u32> kib;            // of the objects that messages are about: the sum of kib_of()
    Logged<u32> most_kib;       // that it takes; 0: any number
    Logged<u32>
        first_returned;   // objects of the client's that nobody refers to any more. Of a main one
    Logged<u32> watched;  // MESSAGES_WATCHED, and PEERS_WATCHED; 0: nobody. Of a main one
    // Waiting: who waits raises `waiters`, reads the sequence, looks, and sleeps while it stays.
    // Hints: a sequence that changes for nothing wakes somebody for nothing.
    std::atomic<u32> arrivals;  // sequence: messages came
    std::atomic<u32> arrival_waiters;
    std::atomic<u32> departures;  // sequence: room came, or the client went
    std::atomic<u32> departure_waiters;
};
static_assert(sizeof(Inbox) == CACHE_LINE);

/// What a client has to do with sharing: a line of its own, one that others write, too, and what seldom changes. Client 0 is
/// nobody: what it owns are orphans and other nodes' objects.
struct alignas(64) ShareClient {
    // Its own: under its lock.
    BiasedLock lock;
    Logged<u32> first_reference;  // link: its tree of references
    Logged<u32> objects_held;     // holders in its tree
    Logged<u32> first_export;     // that it owns
    Logged<u32> exports;          // so many
    Supply export_records, holder_records;
    // Of the context's groups those that it made, less those that it was the last to hold. Only the sum over all clients
    // says something.
    Logged<u32> groups;
    Inbox inbox;  // its main one: `open` and `generation` change under the client's own lock, too
    // Its own, under its lock.
    alignas(CACHE_LINE) Logged<u32> extents;  // as `groups`
    Logged<u32> foreign;                      // of client 0's exports: other nodes' objects
    Logged<u32>
        taken_back;  // returned objects that are on its inbox' list no more, and exports yet
    // What it looks at to send, for others write its inbox' line: 1 + the generation that this has, open; 0: it takes no part.
    Logged<u64> sends_as;
    // For people.
    Hint<u64> sent;
    Hint<u64> received;
    Hint<u64> groups_made;         // ever: numbers of groups
    Logged<u32> first_topic_user;  // topics that it has open
    // Under the locks of names and its own; others look.
    alignas(CACHE_LINE) Logged<u64> name_words[SHARE_NAME_BYTES / sizeof(u64)];

    /// Whether it takes part. Under its lock, or that of its inbox; a hint without.
    bool takes_part() const { return inbox.open.load() != 0; }
    /// Unique among open clients; empty: none. Without the lock it may be of two moments (find_here).
    ClientName name() const { return copied(reinterpret_cast<const ClientName&>(name_words)); }
};
static_assert(sizeof(ShareClient) == 4 * CACHE_LINE);

/// When a client took part, for those who follow who comes and goes (peers.hpp). Under the lock of names.
struct Attendance {
    Logged<u32> stays;  // times that it began to take part, and that it ceased to: odd: it does
    Logged<u32> names;  // times that it took another name meanwhile
    Logged<u32> died;   // 1: its last stay ended with its process
    u32 reserved;
};

/// Exports that linger, oldest first.
struct Lingering {
    Logged<u32> first;
    Logged<u32> last;
    Logged<u32> count;
    u32 reserved;
    Logged<u64> bytes;  // of the objects
};

/// One for each context. Each lock and what it guards is on lines of its own.
struct alignas(64) ShareHeader {
    SlotLock names;                  // who takes part, under which name
    std::atomic<u32> peers_changed;  // sequence: that somebody sleeps on who waits for peers
    std::atomic<u64> names_version;  // odd while that changes: for lookups without the lock
    Logged<u32> topic_users_used;    // records below are some client's, or were
    Logged<u32> free_topic_users;    // list of those that are nobody's any more

    alignas(64) SlotLock records;  // those that no client has at hand
    Logged<u32> exports_present;   // records below are in memory
    Logged<u32> holders_present;
    Logged<u32> exports_used;  // records below are some client's, or were
    Logged<u32> holders_used;
    Logged<u32> export_lists;  // free ones that dead clients had at hand: a list of lists
    Logged<u32> holder_lists;

    alignas(64) SlotLock numbers;  // of objects between nodes: export_of_object()
    Hint<u32> next_object;         // where the search for a free number begins
    Hint<u64> sent_away;           // to other nodes
    Hint<u64> came_in;             // from other nodes

    alignas(64) SlotLock lingering;
    // Own objects, which go when no other node has them, and groups; and others' objects, which
    // could go but may come again.
    Lingering deferred, visiting;

    alignas(64) std::atomic<u32> doorbell;  // what it was when those that wait were last looked at
    std::atomic<u64> heads_seen[era::POOL_NODES];  // of the rings to others: era::has_room()
};

/// The address table: a line of it is a lock and the chains that it guards.
struct alignas(CACHE_LINE) Stripe {
    static constexpr u32 CHAINS = 15;
    SlotLock lock;
    Logged<u32> chains[CHAINS];
};
static_assert(sizeof(Stripe) == CACHE_LINE);
inline constexpr u32 STRIPES = 1 << 12;
/// Of one group: bounds what an operation does. Extents grow with their group, so that the
/// pool is full before.
inline constexpr u32 MAX_EXTENTS = 64;
inline constexpr u32 MAX_EXPORTS = 4 << 20;
inline constexpr u32 MAX_HOLDERS = 8 << 20;
static_assert(MAX_HOLDERS < IS_BRANCH);
/// Records are made present this many bytes at a time.
inline constexpr usize RECORDS_STEP = 256 * KiB;

/// Lanes of a node that its clients' operations take turns in.
inline constexpr u32 MAX_LANES = 256;

/// Numbers of further inboxes begin here: in an id no other node mistakes one for a client's.
inline constexpr u32 FIRST_FURTHER = 0x1000;
static_assert(MAX_DOMAINS <= FIRST_FURTHER);
/// So many of either kind a context has at most: as many rings as have room in their window.
inline constexpr u32 MOST_INBOXES = 16384;
/// Further ones of a context, for as many clients: so many for each, as long as that is possible.
constexpr u32 further_inboxes(u32 max_clients) {
    constexpr u32 EACH = 7;
    const u32 left = MOST_INBOXES - MOST_TOPICS - (max_clients + 1),
              wanted = EACH * (max_clients + 1);
    return wanted < left ? wanted : left;
}

/// So often clients have topics open, of a context of so many: as many as there are further inboxes, but what is always in memory is bounded.
constexpr u32 most_topic_users(u32 max_clients) {
    constexpr u32 MOST = 2048;
    const u32 inboxes = further_inboxes(max_clients);
    return inboxes < MOST ? inboxes : MOST;
}

/// Offsets of the parts, from SHARE_OFFSET; the first eleven are always in memory, the others lie
/// from RECORDS_OFFSET on and are made present as they are needed.
struct ShareLayout {
    usize buckets, clients, further, counts, lanes, pins, objects, attendances, topics, topic_users;
    usize present_bytes;
    usize exports, sides, holders, mailboxes, record_bytes;
};
inline constexpr usize SHARE_HEADER_AT = 0;
[[gnu::always_inline]] constexpr ShareLayout share_layout(u32 max_clients, u32 max_slots,
                                                          u32 chunk_count, u32 era_objects) {
    ShareLayout l{};
    // Those of constant size first: where the others begin is known without a calculation.
    l.buckets = round_up(SHARE_HEADER_AT + sizeof(ShareHeader), CACHE_LINE);
    l.clients = l.buckets + usize{STRIPES} * sizeof(Stripe);
    l.further = l.clients + (usize{max_clients} + 1) * sizeof(ShareClient);
    l.counts = l.further + (usize{further_inboxes(max_clients)} + MOST_TOPICS) * sizeof(Inbox);
    l.lanes = round_up(l.counts + usize{chunk_count} * sizeof(u32), CACHE_LINE);
    l.pins = l.lanes + (era_objects == 0 ? 0 : MAX_LANES * CACHE_LINE);
    l.objects = l.pins + (era_objects == 0 ? 0 : usize{max_slots} * sizeof(u32));
    l.attendances = round_up(l.objects + usize{era_objects} * sizeof(u32), CACHE_LINE);
    l.topics = round_up(l.attendances + (usize{max_clients} + 1) * sizeof(Attendance), CACHE_LINE);
    l.topic_users = l.topics + usize{MOST_TOPICS} * sizeof(Topic);
    l.present_bytes =
        l.topic_users + (usize{most_topic_users(max_clients)} + 1) * sizeof(TopicUser);
    l.exports = 0;
    l.sides = round_up(usize{MAX_EXPORTS} * sizeof(Export), 2 * MiB);
    l.holders = l.sides + round_up(usize{MAX_EXPORTS} * sizeof(ExportSide), 2 * MiB);
    l.mailboxes = l.holders + round_up(usize{MAX_HOLDERS} * sizeof(Holder), 2 * MiB);
    l.record_bytes =
        l.mailboxes +
        round_up((usize{max_clients} + 1 + further_inboxes(max_clients) + MOST_TOPICS) *
                     MAILBOX_MESSAGES * sizeof(Message),
                 2 * MiB);
    return l;
}

// ---- Where the parts are

// What they cost is an addition or two, if they are not called: the compiler's limits for what it
// puts into one function must not count here.
[[gnu::always_inline]] inline ShareLayout share_layout() {
    return share_layout(context().max_clients, context().max_slots, context().chunk_count,
                        context().era_objects);
}
template <class T>
T* share_part(usize offset) {
    return reinterpret_cast<T*>(control_base() + SHARE_OFFSET + offset);
}
template <class T>
T* record_part(usize offset) {
    return reinterpret_cast<T*>(control_base() + RECORDS_OFFSET + offset);
}
inline ShareHeader& sharing() { return *share_part<ShareHeader>(SHARE_HEADER_AT); }
[[gnu::always_inline]] inline ShareClient& share_client(u32 client) {
    return share_part<ShareClient>(share_layout().clients)[client];
}
inline Attendance& attendance_of(u32 client) {
    return share_part<Attendance>(share_layout().attendances)[client];
}
/// Whether it is the number of a further inbox.
inline bool is_further(u32 number) {
    return number >= FIRST_FURTHER &&
           number - FIRST_FURTHER < further_inboxes(context().max_clients);
}
/// Whether it is the number of an inbox: of a client's, or of a further one.
inline bool is_inbox(u32 number) {
    return number < FIRST_FURTHER ? number != 0 && number <= context().max_clients
                                  : is_further(number);
}
/// By its number, of an inbox or a topic's. What is always in memory of it.
[[gnu::always_inline]] inline Inbox& inbox_at(u32 number) {
    if (AEP_LIKELY(number < FIRST_FURTHER)) return share_client(number).inbox;
    return share_part<Inbox>(share_layout().further)[number - FIRST_FURTHER];
}
/// Exports that lie in the chunk, wholly or in part.
inline Logged<u32>& chunk_exports(u32 chunk) {
    return share_part<Logged<u32>>(share_layout().counts)[chunk];
}
/// The bits by which an address is looked for: the highest ones first.
inline u64 hash_of(u64 address) { return (address >> 4) * 0x9e37'79b9'7f4a'7c15; }
inline u32 stripe_of(u64 address) { return static_cast<u32>(hash_of(address) >> 52); }
static_assert(STRIPES == 1 << 12);
inline Stripe& stripe_at(u32 index) { return share_part<Stripe>(share_layout().buckets)[index]; }
/// Exports at addresses of the same hash.
inline Logged<u32>& chain_of(u64 address) {
    const u64 fraction = hash_of(address) >> 20 & 0xffff'ffff;
    return stripe_at(stripe_of(address)).chains[fraction * Stripe::CHAINS >> 32];
}
/// 1 + the slot whose operation is in that lane of the node; 0: none. One a line.
inline std::atomic<u32>& lane_taken(u32 lane) {
    return *share_part<std::atomic<u32>>(share_layout().lanes + lane * CACHE_LINE);
}
/// The export that the slot's operation has pinned; NO_RECORD: none. Only with a node of its own.
inline Logged<u32>& pin_of(u32 slot) { return share_part<Logged<u32>>(share_layout().pins)[slot]; }
/// The export of an object between nodes, by its number there; NO_RECORD: not known here.
inline Logged<u32>& export_of_object(u32 object) {
    return share_part<Logged<u32>>(share_layout().objects)[object];
}
/// Calls `f(inbox)` with the number of each inbox that the client has, the main one first. Without locks: whatever its list says, with no
/// more than there can be.
template <class F>
void each_inbox(u32 client, F&& f) {
    f(client);
    u32 further = share_client(client).inbox.next.load();
    for (u32 n = 0; n < MOST_INBOXES && is_further(further); ++n) {
        if (inbox_at(further).client.load() != client) return;
        f(further);
        further = inbox_at(further).next.load();
    }
}
/// The ring of an inbox or a topic: present while that is open.
inline Message* ring_of(u32 inbox) {
    const u32 ring =
        inbox < FIRST_FURTHER ? inbox : context().max_clients + 1 + (inbox - FIRST_FURTHER);
    return record_part<Message>(share_layout().mailboxes) + usize{ring} * MAILBOX_MESSAGES;
}
[[gnu::always_inline]] inline Export& export_at(u32 index) {
    return record_part<Export>(share_layout().exports)[index];
}
[[gnu::always_inline]] inline ExportSide& side_at(u32 index) {
    return record_part<ExportSide>(share_layout().sides)[index];
}
[[gnu::always_inline]] inline Holder& holder_at(u32 index) {
    return record_part<Holder>(share_layout().holders)[index];
}
inline Branch& branch_at(u32 link) {
    return record_part<Branch>(share_layout().holders)[link & ~IS_BRANCH];
}

/// The chunks that an object touches, [first, end).
struct ChunkSpan {
    u32 first, end;
};
inline ChunkSpan chunks_of(u64 address, u64 bytes) {
    const auto chunk_at = [](u64 at) { return static_cast<u32>((at - HEAP_BASE) >> CHUNK_SHIFT); };
    return {chunk_at(address), chunk_at(address + (bytes == 0 ? 0 : bytes - 1)) + 1};
}

/// Whether both names of SHARE_NAME_BYTES at most are the same, and not empty.
inline bool same_name(const char* a, const char* b) {
    u32 at = 0;
    while (at < SHARE_NAME_BYTES && a[at] == b[at] && a[at] != '\0') ++at;
    return at != 0 && (at == SHARE_NAME_BYTES || a[at] == b[at]);
}
/// Whether it takes part under that name, which is not empty.
inline bool is_called(const ShareClient& client, const char* name) {
    return client.takes_part() && same_name(client.name().text, name);
}

/// Whether objects of the client's have come back that it has still to free.
inline bool has_returned(const ShareClient& client) {
    return client.taken_back.load() != 0 || client.inbox.first_returned.load() != 0;
}

/// Whether the client has references, messages, exports, further inboxes or topics.
inline bool has_shares(const ShareClient& client) {
    return client.objects_held.load() != 0 || client.first_export.load() != 0 ||
           has_returned(client) || client.inbox.messages.load() != 0 ||
           client.inbox.next.load() != 0 || client.first_topic_user.load() != 0;
}

/// Who performs an operation.
struct Caller {
    u32 client;  // for whom: 1 .. max_clients; 0: the host itself
    u32 slot;    // in which: holds what the operation locks
};

static_assert(MAX_DOMAINS <= 0x10000);

/// The id of an inbox of this context that is open.
inline ShareId id_of(u32 inbox, u32 generation) {
    return ShareId::make(inbox, generation, context().era_node,
                         context().era_generation.load(std::memory_order_relaxed));
}
inline ShareId id_of(u32 inbox) { return id_of(inbox, inbox_at(inbox).generation); }
/// The same of one of the client's own inboxes, by itself. Its main one takes part.
inline ShareId id_of_own(u32 client, u32 inbox) {
    if (AEP_UNLIKELY(inbox != client)) return id_of(inbox);
    return id_of(client, static_cast<u32>(share_client(client).sends_as - 1));
}

/// Whether the id is one of another node's clients.
inline bool is_elsewhere(ShareId id) {
    return id.node() != era::NO_NODE && id.node() != context().era_node;
}

// ---- The pool's part

inline bool shares_between_nodes() { return context().era_node != era::NO_NODE; }

/// The tables that the nodes share; only with shares_between_nodes().
inline era::Tables era_tables() {
    return era::tables_in(reinterpret_cast<void*>(context().pool_address), context().pool);
}
/// What this node acts under.
inline era::NodeWord era_standing() {
    return era::NodeWord::make(era::NodeState::live,
                               context().era_generation.load(std::memory_order_relaxed));
}

/// Calls f(memory) with the Memory that fits the pool.
template <class F>
auto with_pool_memory(F&& f) {
    return era::with_memory(
        static_cast<era::PoolCaches>(context().pool_caches.load(std::memory_order_relaxed)),
        static_cast<F&&>(f));
}

/// References that other nodes and messages to them have to it.
inline u32 references_elsewhere(const Export& e) {
    if (e.node_ref != NodeRef::held) return 0;
    const u32 count = era::CountWord{era_tables().count(e.object - 1).load()}.count();
    return count == 0 ? 0 : count - 1;
}

}  // namespace aep
