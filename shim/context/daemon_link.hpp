// Purpose: the way to the node daemon: where its socket is, connecting, one question with its
//          answer and the descriptors in it.
// Who calls it: join.cpp, slots.cpp; the command line (tools/cli).
// Crash rule: a connection ends with the process; the daemon keeps nothing for it but the client.
//
// Raw system calls only: it works before any constructor.
#pragma once

#include "shim/context/daemon_protocol.hpp"
#include "shim/sys/environment.hpp"
#include "shim/sys/message.hpp"

namespace aep {

/// As long as the kernel allows (sun_path).
inline constexpr usize MAX_SOCKET_PATH = 108;

struct DaemonLink {
    char path[MAX_SOCKET_PATH] = {};  // absolute, so that it is found after chdir
    bool usual_place = false;         // .../NAME/socket: the directories must be ours, too
    int pid = 0;                      // of the daemon that was connected to; 0: not known
    u32 stranger = 0;                 // the user that a part of the path belongs to, after EPERM
    usize strange_bytes = 0;          // how much of the path that is; 0: it was the daemon
    int fd = -1;                      // the connection; the program may close it like any other
    u64 device = 0;                   // its identity: whether `fd` is still the connection
    u64 inode = 0;
};

/// Finds out where the daemon listens. False, after a message, if the settings cannot be right.
bool find_daemon(DaemonLink& link, const Settings& settings);

/// Connects where the directories, the socket and the daemon are this user's or root's; EPERM: they
/// are not. 0 or -errno. Waits a second at most, where more want to be let in than may wait.
long connect_daemon(DaemonLink& link);

/// Why there was no connection or no answer, in one line: `error`, as returned.
MessageLine no_answer(const DaemonLink& link, const char* context, long error);

/// Asks on the connection. 0 with the answer, and up to `fd_count` descriptors in `fds` (-1: not
/// sent); or -errno: ETIMEDOUT after 5 s, or 200 ms when it is stopped.
long ask_daemon(const DaemonLink& link, const AskMessage& ask, AnswerMessage& answer, int* fds,
                u32 fd_count);

/// Closes the connection if it is still ours.
void close_link(DaemonLink& link);

}  // namespace aep
