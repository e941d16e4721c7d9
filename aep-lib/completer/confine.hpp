// Purpose: takes from the completer all that an operation does not need: it goes on with registers
//          and stacks that the tenant's processes chose, so whoever takes it over must find
//          nothing.
// Who calls it: the completer's main(), before it maps anything of the tenant's and after.
// Crash rule: what is given up is given up for the rest of the process.
#pragma once

#include "aep-lib/completer/protocol.hpp"

namespace aep {

/// Becomes the tenant without any capability, of root's, too: all sets are empty, the bounding set
/// with them where that is allowed (it takes CAP_SETPCAP; who has none cannot get any, either), and
/// no program gives any back. It ends with its daemon. One thread. What failed, or null; errno says
/// why.
const char* give_up_privileges(CompleterUser user);

/// From now on nobody of the same user may trace the process, look into its memory or take its
/// descriptors: there is nothing to gain by it, and nothing to be had for less. Not before the
/// kernel has made it a member, which asks for as much. What failed, or null; errno says why.
const char* forbid_tracing();

/// From now on every thread of the process may make the few system calls that completing takes:
/// futex waits and wakes, sleeping, signals of the completer's own to its own threads, returning
/// from them, messages on `socket`, and exiting. Any other one is not made: its thread gets SIGSYS.
/// After all threads exist. What failed, or null; errno says why.
const char* enter_filter(int socket);

}  // namespace aep
