// Purpose: the sharing operations by number, and what each is asked and answers.
// Who calls it: the operations (share_ops.hpp and what they are made of), the client side, the host.
// Crash rule: no state.
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

enum class ShareOp : u32 {
    open = 0x200,  // a, b, now, mask=the name's 32 bytes -> ok; exists: somebody has that name
    send,          // a=address, b=ShareId of the receiver, mask=bytes of the object
                   // -> ok; gone: no such client, or it does not take part; full; not_held;
                   // need_records
    receive,       // b=ShareId whose messages alone count, or 0
    // -> value=address, mask=bytes (0: it is a group), extra=ShareId of the sender; miss:
    // no message; gone: none, and the named sender is no more; need_records
    reference,      // a=address, mask=bytes -> ok: one more reference; not_held; need_records
    drop,           // a=address -> ok: one reference less; mask=1: it was the last, and the caller
                    // owns the memory: to be freed by it; value=address of a group that the
                    // caller does not hold any more; not_held; miss: no export
    query,          // a=address -> value=references, mask=bytes, extra=the caller's own; miss
    take_returned,  // -> value=address that the caller owns and nobody refers to: to be freed by
                    // it; miss: none
    add_records,    // a=exports, b=holders whose records are present now
    watch,          // -> ok: from now on a thread of the client waits for messages that does not
                    // look under the lock (the one behind a descriptor); gone
    settle,         // gives up the node's references that nobody of it needs any more; a=1: but
                    // those to other nodes' objects -> value=how many; ok: some linger yet; miss:
                    // none does
    tidy,           // by the host: settle, and messages from other nodes for the dead are dropped
    leave,          // of a client that is dead: a part of all it had -> ok: again; miss: done
    finish_away,  // by the host: a=slot whose operation died between nodes, its lane settled: what
                  // it had pinned is put right
    // Groups: group_ops.hpp.
    group_make,    // a=address, mask=bytes of the first block -> value=index of its export,
                   // mask=a number that no other group of the context ever has; as reference
    group_find,    // a=address of the group or its root -> value=address of the group, mask=index
                   // of its export; miss; not_held
    group_extend,  // a=group, b=address, mask=bytes of the extent -> ok; miss; not_writer; limit;
                   // not_held: not the caller's memory; need_records
    group_root,    // a=group, b=address, mask=bytes of the root; b=0: none -> ok; miss; not_writer;
                   // busy: others have references; not_live: not in the group; need_records
    group_writer,  // a=group, b=ShareId of its writer from now on, or 0 -> ok; miss; not_writer;
                   // gone; not_held: that one has no reference
    end,
};

/// Who performs an operation.
struct Caller {
    u32 client;  // for whom: 1 .. max_clients; 0: the host itself
    u32 slot;    // in which: holds what the operation locks
};

constexpr bool known_share_op(u32 number) {
    return number >= static_cast<u32>(ShareOp::open) && number < static_cast<u32>(ShareOp::end);
}

/// What of a slot's Request and Reply these use: half a line each way.
struct ShareRequest {
    u64 a = 0;
    u64 b = 0;
    u64 now = 0;
    u64 mask = 0;
};
struct ShareReply {
    Status status = Status::ok;
    u64 value = 0;
    u64 mask = 0;
    u64 extra = 0;
};

}  // namespace aep
