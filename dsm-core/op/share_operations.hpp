// Purpose: the sharing operations: how a reference is sent, received, kept and dropped; groups.
// Who calls it: the client side of sharing, through the image; the host for dead clients.
// Crash rule: see sharing/share_ops.hpp.
#pragma once

#include "dsm-core/base/label.hpp"
#include "dsm-core/op/operation.hpp"
#include "dsm-core/op/topic_operations.hpp"

namespace aep::op {

/// The client takes part, under a name or another name.
struct Open {
    static constexpr const char* NAME = "open";
    ShareName name{};
    bool barriers = false;  // its process takes part in them (base/every_thread.hpp)
    using Reply = Done;     // exists: somebody has that name
    friend constexpr bool operator==(const Open&, const Open&) = default;
};

/// Lays a reference down in an inbox: one more, or the caller's own.
struct Send {
    static constexpr const char* NAME = "send";
    uptr object = 0;
    ShareId to{};
    u64 bytes = 0;  // of the object, if it is the caller's own memory
    Label label{};
    u32 as = 0;  // further inbox of the caller's that answers are to come to; 0: its main one
    bool drop = false;  // the message's reference is the caller's: it has one less afterwards
    struct Reply {
        Status status = Status::ok;    // gone: no such inbox, or it is not open; full; not_held;
                                       // need_records; limit
        Memory memory = Memory::kept;  // as Drop's: of what went to another node nobody may need it
        uptr left_group = 0;           // as Drop's
    };
    friend constexpr bool operator==(const Send&, const Send&) = default;
};

/// Takes the oldest message out of one of the caller's inboxes.
struct Receive {
    static constexpr const char* NAME = "receive";
    ShareId from{};  // whose messages alone count; 0: anybody's
    u32 at = 0;      // further inbox; 0: the main one
    struct Reply {
        Status status = Status::ok;  // miss: no message; gone: none, and the named sender is no
                                     // more; need_records
        ObjectKind kind = ObjectKind::object;
        uptr object = 0;
        u64 bytes = 0;  // of an object
        ShareId sender{};
        Label label{};
    };
};

/// Lays down references to several objects in an inbox of this node, in this order and each by itself, as Send: of those that do not go
/// the first and what comes after it have not been touched.
struct SendMany {
    static constexpr const char* NAME = "send_many";
    static constexpr u32 MOST = 8;
    ShareId to{};
    Label label{};  // of each
    u32 as = 0;     // as Send's
    bool drop = false;
    u8 count = 0;
    uptr objects[MOST] = {};
    u64 bytes[MOST] = {};
    struct Reply {
        Status status = Status::ok;  // of the first that did not go
        u32 sent = 0;
        uptr left_groups[MOST] = {};  // as Drop's, of those that went
    };
};

/// One of them.
struct TakenMessage {
    uptr object = 0;
    u64 bytes = 0;  // of an object
    ShareId sender{};
    Label label{};
    ObjectKind kind = ObjectKind::object;
};

/// Takes the oldest messages out of one of the caller's inboxes, as Receive, but no more than lie there.
struct ReceiveMany {
    static constexpr const char* NAME = "receive_many";
    static constexpr u32 MOST = 12;
    ShareId from{};
    u32 at = 0;
    u32 most = MOST;
    struct Taken {
        TakenMessage message[MOST];
    };
    struct Reply {
        Status status = Status::ok;  // as Receive's, if there is none
        u32 count = 0;
        Taken taken{};
    };
};

/// One more reference of the caller's to an object that it holds or that is its own.
struct Reference {
    static constexpr const char* NAME = "reference";
    uptr object = 0;
    u64 bytes = 0;
    using Reply = Done;  // not_held; need_records
};

/// One reference of the caller's less.
struct Drop {
    static constexpr const char* NAME = "drop";
    uptr object = 0;
    struct Reply {
        Status status = Status::ok;  // not_held; miss: nobody has ever sent it
        Memory memory = Memory::kept;
        uptr left_group = 0;  // the group that the caller does not hold any more
    };
};

/// One reference of the caller's less to each of several objects, in this order and each by itself, as Drop: of those that do not go
/// the first and what comes after it have not been touched.
struct DropMany {
    static constexpr const char* NAME = "drop_many";
    static constexpr u32 MOST = 16;
    u32 count = 0;
    uptr objects[MOST] = {};
    struct Reply {
        Status status = Status::ok;  // of the first that did not go; busy: a Drop alone can do it
        u32 dropped = 0;
        u32 yours_to_free = 0;  // a bit for each that went: its memory is the caller's
    };
};

/// What is known of an object.
struct Query {
    static constexpr const char* NAME = "query";
    uptr object = 0;
    bool exactly = false;  // how many references; else others' may be too many
    struct Reply {
        Status status = Status::ok;  // miss
        u64 references = 0;          // of all
        u64 bytes = 0;
        u64 own = 0;  // references of the caller's
    };
};

/// Takes objects of the caller's that nobody refers to any more, as many as fit into an answer: to be freed by it.
struct TakeReturned {
    static constexpr const char* NAME = "take_returned";
    static constexpr u32 MOST = 15;
    struct Reply {
        Status status = Status::ok;  // miss: none; ok: there may be more
        u32 count = 0;
        uptr objects[MOST] = {};
    };
};

/// More records are present.
struct AddRecords {
    static constexpr const char* NAME = "add_records";
    u32 exports = 0, holders = 0;  // all of them
    using Reply = Done;            // limit
};

/// What the client's threads wait for that do not look under the lock of its inbox: from now on they are told of it.
struct Watch {
    static constexpr const char* NAME = "watch";
    bool messages = true;  // the one behind a descriptor
    bool peers = false;    // that come and go
    using Reply = Done;    // gone
    friend constexpr bool operator==(const Watch&, const Watch&) = default;
};

/// Since when a client takes part, and how it ceased to.
struct LookAtPeer {
    static constexpr const char* NAME = "look_at_peer";
    u32 client = 0;
    struct Reply {
        Status status = Status::ok;  // miss: there is no such one
        u32 stays = 0;               // Attendance
        u32 names = 0;               //
        u32 died = 0;                //
        ShareId id{};                // of who takes part, or did so last
        ShareName name{};            // of who takes part
    };
};

/// The caller has that further inbox, if nobody has it. Or one that it has, and that is empty, goes on under another id: what is sent to
/// the former one comes no more. Its ring is present.
struct OpenInbox {
    static constexpr const char* NAME = "open_inbox";
    u32 inbox = 0;
    ShareId former{};  // the id that it has; 0: it is nobody's
    struct Reply {
        Status status = Status::ok;  // exists: somebody has it; miss: there is no such one; gone;
                                     // busy: it is not empty
        ShareId id{};
    };
};

/// One of the caller's inboxes takes no messages any more, and those that it has are dropped, so many at a time. The main one: the
/// client takes no part any more, and keeps what it holds; a further one is nobody's afterwards.
struct CloseInbox {
    static constexpr const char* NAME = "close_inbox";
    u32 inbox = 0;
    using Reply = Done;  // ok: again; miss: done; gone: it is not the caller's
};

/// How much one of the caller's inboxes takes: with messages about as much memory, no more that are about any. Less than it has: no
/// more until it has less.
struct LimitInbox {
    static constexpr const char* NAME = "limit_inbox";
    u32 inbox = 0;
    u32 most_kib = 0;    // 0: any number
    using Reply = Done;  // gone: it is not the caller's
};

/// Gives up the node's references that nobody of it needs any more.
struct Settle {
    static constexpr const char* NAME = "settle";
    bool own_only = false;  // but those to other nodes' objects
    struct Reply {
        Status status = Status::ok;  // some linger yet; miss: none does
        u32 given_up = 0;
    };
    friend constexpr bool operator==(const Settle&, const Settle&) = default;
};

/// By the host: settle, and messages from other nodes for the dead are dropped.
struct Tidy {
    static constexpr const char* NAME = "tidy";
    // Of whose ring each cell is looked at, whatever its hints say; no such node: of all.
    u32 from = 0xffff'ffff;
    using Reply = Settle::Reply;
    friend constexpr bool operator==(const Tidy&, const Tidy&) = default;
};

/// By the host for a client that is dead: a part of all it had.
struct Leave {
    static constexpr const char* NAME = "leave";
    using Reply = Done;  // ok: again; miss: done
    friend constexpr bool operator==(const Leave&, const Leave&) = default;
};

/// By the host: what the operation of a slot that died between nodes had pinned is put right. Its
/// lane is settled.
struct FinishAway {
    static constexpr const char* NAME = "finish_away";
    u32 slot = 0;
    using Reply = Done;  // miss: there is no such slot
    friend constexpr bool operator==(const FinishAway&, const FinishAway&) = default;
};

// ---- Groups (sharing/group_ops.hpp)

/// A block becomes a group, which it is the first part of. The caller is its writer and refers to
/// it.
struct MakeGroup {
    static constexpr const char* NAME = "make_group";
    uptr block = 0;
    u64 bytes = 0;
    struct Reply {
        Status status = Status::ok;  // gone; exists; as Reference
        u32 index = 0;               // of its export
        u64 number = 0;              // that no other group of the context ever has
    };
};

struct FindGroup {
    static constexpr const char* NAME = "find_group";
    uptr object = 0;  // the group or its root
    struct Reply {
        Status status = Status::ok;  // miss; not_held
        u32 index = 0;               // of its export
        uptr group = 0;
    };
};

/// By the writer: more memory.
struct ExtendGroup {
    static constexpr const char* NAME = "extend_group";
    uptr group = 0;
    uptr extent = 0;
    u64 bytes = 0;
    using Reply = Done;  // miss; not_writer; limit; not_held: not the caller's memory; need_records
};

/// By the writer, while nobody else refers to the group.
struct SetRoot {
    static constexpr const char* NAME = "set_root";
    uptr group = 0;
    uptr root = 0;  // 0: none
    u64 bytes = 0;
    using Reply = Done;  // miss; not_writer; busy; not_live: not in the group; need_records
};

/// By the writer.
struct SetWriter {
    static constexpr const char* NAME = "set_writer";
    uptr group = 0;
    ShareId writer{};    // from now on; 0: nobody
    using Reply = Done;  // miss; not_writer; gone; not_held: that one has no reference
};

/// By one who refers to a group that nobody may write any more: now the caller may.
struct TakeGroup {
    static constexpr const char* NAME = "take_group";
    uptr group = 0;
    using Reply = Done;  // miss; not_held; not_writer: another client is it; elsewhere
};

/// Readers of a group that say when they look at it; no more do so.
inline constexpr u32 MAX_GROUP_READERS = 64;

/// How many references to the group are neither the caller's nor those clients': of who may be looking at it at any time.
struct CountUnknown {
    static constexpr const char* NAME = "count_unknown";
    uptr group = 0;
    u16 known[MAX_GROUP_READERS] = {};  // clients, each once; 0: none
    struct Reply {
        Status status = Status::ok;  // miss
        u64 unknown = 0;             // messages and what other nodes have among them
    };
};

using ShareOperations =
    OperationList<0x200, Open, Send, SendMany, Receive, ReceiveMany, Reference, Drop, DropMany,
                  Query, TakeReturned, AddRecords, Watch, Settle, Tidy, Leave, FinishAway,
                  MakeGroup, FindGroup, ExtendGroup, SetRoot, SetWriter, TakeGroup, CountUnknown,
                  OpenInbox, CloseInbox, LimitInbox, LookAtPeer, OpenTopic, Subscribe, Publish,
                  TakePublication, CloseTopic>;

}  // namespace aep::op
