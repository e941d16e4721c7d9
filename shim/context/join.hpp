// Purpose: this process as a client of a context: finding its daemon, attaching, mapping what the
//          daemon hands out; and attaching again as a forked child.
// Who calls it: process.cpp once at the start; joined_backing.cpp in a forked child.
// Crash rule: a client's life is the lock that its life token keeps. Killed before that is mapped,
//             it dies with the descriptor: the daemon takes back what it had entered for us.
#pragma once

#include "dsm-core/context/format.hpp"
#include "shim/context/daemon_link.hpp"

namespace aep {

/// What this process knows of itself as a this_client. Constant-initialised.
struct Client {
    DaemonLink link;
    char name[64] = {};     // the context's, for messages
    bool joined = false;    // its heap began in a context, or its parent's did
    bool attached = false;  // it is a client now; a forked child is not until it needs a chunk
    u32 index = 0;          // in the client table; the number of the domain that it began with
    u32 generation = 0;
    u32 provider = 0;  // Provider

    /// Whether the kernel has mapped the image, the tables and the stacks, for good: the process
    /// cannot change that part of its address space, and its children have it, too.
    bool is_member() const { return provider == static_cast<u32>(Provider::kernel); }
};
extern Client this_client;

enum class Join {
    joined,
    absent,  // nobody asked for a context, and there is none
    failed,  // said in a message
};

/// Looks for a context as the settings say and joins it: everything of it is mapped afterwards,
/// this client's domain is empty and ready, and the pool is `pool`.
Join join_context(const Settings& settings);

/// In a forked child, whose heap is private: becomes a client of its own, to take chunks. 0 or
/// -errno, with nothing more mapped than before.
long join_again();

/// In a forked child: nothing of the client was inherited but its private memory.
void forget_client();

}  // namespace aep
