// Purpose: what the daemon and its completer say to each other, and how a completer is started.
// Who calls it: the daemon, the completer, the provider's tests.
// Crash rule: a completer that dies leaves each operation as it was captured: start another, and
//             ask for the same slots again. A completer whose daemon dies ends.
//
// The socket is a Unix SOCK_SEQPACKET pair: jobs one way, reports the other. The first report of a
// completer is `ready`; every job is then answered by one report, in any order. A second job for a
// slot that is still under way is answered by the first one's report.
//
// Without a capture map it is the kernel provider's, which needs nobody to complete operations, but
// a member to perform the host's: then its first report is `started`, and it waits for BEGIN_JOB,
// which says that it is a member. A job is a slot with an operation that has not begun.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Asks to finish the open operation of a slot whose thread is dead, or has left it for good; or to
/// perform the one that is written there.
struct CompleterJob {
    u32 slot;
};
inline constexpr u32 BEGIN_JOB = ~0U;

enum class CompleterOutcome : u32 {
    ready = 1,     // the completer works; `slot` says nothing
    completed,     // the operation ended; the sequence is even
    nothing_open,  // the sequence was even
    no_capture,    // nobody knows where the thread was: the context is to be poisoned
    broken,        // the operation met `signal` at `rip` (0: it ended without ending the operation)
    started,       // the program runs, and waits until it is a member
};

struct CompleterReport {
    u32 slot;
    CompleterOutcome outcome;
    u32 op;      // number of the slot's operation
    u32 signal;  // broken
    u64 rip;     // broken
};

/// The descriptors that a completer needs, in the order in which it has them from 3 on.
struct CompleterFds {
    int context;    // the context file
    int image;      // the image
    int pool;       // the pool file
    int captures;   // the capture map; -1: there is none
    int constants;  // begins with the context's constants; memory that no client writes
    int socket;     // the completer's end of the pair
};
inline constexpr int FIRST_COMPLETER_FD = 3;
inline constexpr int COMPLETER_FDS = 6;

/// How a completer ends that cannot come to work, as its exit status.
inline constexpr int COMPLETER_LACKS = 1;   // what the system has not got just now; or it is of
                                            // another version than the context
inline constexpr int COMPLETER_MISLED = 3;  // what clients can write is not as the daemon made it

/// As whom a completer runs: it goes on with registers that the tenant's processes had, so it may
/// do no more than the tenant.
struct CompleterUser {
    u32 uid;
    u32 gid;
};

/// Starts the completer at `path`; the descriptors stay the caller's. Its process id, or -errno. It
/// must be watched (COMPLETER_CLIENT) before it is given a job. There may be two for a moment:
/// the later one waits until the former is gone.
long start_completer(const char* path, const CompleterFds& fds, CompleterUser user);

}  // namespace aep
