// Purpose: what the host reads of words that clients write: each once, into memory of its own, and
//          judged there. An index that leads out of a table is nobody's, a name is printable.
// Who calls it: the node host, the daemon's commands.
// Crash rule: reads only.
#pragma once

#include <string>

#include "dsm-core/context/format.hpp"

namespace aep {

/// The bytes of `text` up to its zero or its end, those that are no printable ASCII as '?'.
std::string printable(const char* text, usize room);

/// Who has a slot, as its word says; {0}: nobody that there can be. Its client is 0 (of the host's
/// slot: no client in particular) or one of the table.
SlotOwner owner_of(const Slot& slot);

/// What an entry of the client table says. A state that is none is `damaged`.
struct ClientFacts {
    ClientState state = ClientState::free;
    bool damaged = false;
    bool private_heap = false;
    u32 generation = 0;
    u32 pid = 0;
    u32 slots = 0;  // of its threads: those that have been in an operation
    u64 chunks = 0;
    u64 peak = 0;
    u64 limit = 0;
    u64 attached_ns = 0;
    std::string name;
};

/// `client`: of any number, for clients write numbers, too; of one that is none: damaged, and nothing else.
ClientFacts facts_of(u32 client);

}  // namespace aep
