// Purpose: the way to the node daemon: where its socket is, connecting, one question with its
//          answer and the descriptors in it.
// Who calls it: join.cpp, slots.cpp.
// Crash rule: a connection ends with the process; the daemon keeps nothing for it but the client.
//
// Raw system calls only: it works before any constructor.
#pragma once

#include "shim/daemon_protocol.hpp"
#include "shim/environment.hpp"

namespace aep {

/// As long as the kernel allows (sun_path).
inline constexpr usize MAX_SOCKET_PATH = 108;

struct DaemonLink {
    char path[MAX_SOCKET_PATH] = {};  // absolute, so that it is found after chdir
    int fd = -1;                      // the connection; the program may close it like any other
    u64 device = 0;                   // its identity: whether `fd` is still the connection
    u64 inode = 0;
};

/// Finds out where the daemon listens. False, after a message, if the settings cannot be right.
bool find_daemon(DaemonLink& link, const Settings& settings);

/// Connects, and checks that the daemon is ours or root's. 0 or -errno.
long connect_daemon(DaemonLink& link);

/// Asks on the connection. 0 with the answer, and up to `fd_count` descriptors in `fds` (-1: not
/// sent); or -errno.
long ask_daemon(const DaemonLink& link, const AskMessage& ask, AnswerMessage& answer, int* fds,
                u32 fd_count);

/// Whether `fd` still is the connection that was made.
bool link_is_ours(const DaemonLink& link);

/// Closes the connection if it is still ours.
void close_link(DaemonLink& link);

}  // namespace aep
