// Purpose: what this process knows of itself as a client of a context.
// Who calls it: join.cpp writes it; all who ask whether, and of what, this process is a client.
// Crash rule: private to the process.
#pragma once

#include "dsm-core/context/format.hpp"
#include "shim/context/daemon_link.hpp"

namespace aep {

/// What this process knows of itself as a client. Constant-initialised.
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

/// In a forked child: nothing of the client was inherited but its private memory.
inline void forget_client() { this_client.attached = false; }

}  // namespace aep
