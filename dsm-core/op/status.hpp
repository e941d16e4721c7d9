// Purpose: how an operation ended.
// Who calls it: the operations, whoever asks for one.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

enum class Status : u32 {
    ok,
    miss,  // there is none

    // Of the way in.
    no_such_op,  // the number is none that this image knows
    nested,      // the thread's slot is inside already (a signal handler); nothing was done
    poisoned,    // the context is; nothing was done
    fenced,      // other nodes have declared this one dead; nothing was done
    apart,       // this node has no quorum: nothing crosses nodes; nothing was done
    limit,       // the client or the context may not hold more

    // Of the heap.
    not_live,     // nothing that is allocated begins there
    need_heaps,   // more heaps must be mapped first
    beyond_end,   // what lies behind is not the heap's yet
    uncommitted,  // memory must be made present first
    need_chunks,  // the domain has none that are free

    // Of sharing.
    gone,          // the client does not take part, or not any more
    full,          // the mailbox has no room
    not_held,      // the client has no reference to the object
    exists,        // the name is taken
    need_records,  // more records must be made present first
    not_writer,    // the client may not allocate in the group
    busy,          // others have references to the group
    elsewhere,     // it is another node's
};

}  // namespace aep
