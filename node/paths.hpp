// Purpose: where a context's files are: its directory on tmpfs (context, pool, lock) and the
//          socket of its daemon; and the directories made so that nobody else gets in.
// Who calls it: the node host, the daemon, the command line.
// Crash rule: directories are made once; a half-made one is completed by the next daemon.
//
//   /dev/shm/aep-UID-NAME/     context, pool (a file, or a link to the one that --pool names), lock
//   DIRECTORY/NAME/            socket, log; DIRECTORY: see daemon_protocol.hpp
#pragma once

#include <string>
#include <vector>

namespace aep {

struct ContextPaths {
    std::string name;
    std::string directory;  // on tmpfs
    std::string socket;
    bool own_runtime = true;  // the socket's directory is this context's alone

    std::string context() const { return directory + "/context"; }
    std::string pool() const { return directory + "/pool"; }
    std::string lock() const { return directory + "/lock"; }
    std::string runtime_directory() const { return socket.substr(0, socket.rfind('/')); }
    std::string log() const { return own_runtime ? runtime_directory() + "/log" : socket + ".log"; }
    /// The log of before, when that had become too long: named as spdlog does.
    std::string older_log() const {
        return own_runtime ? runtime_directory() + "/log.1" : socket + ".1.log";
    }
};

/// Whether a context may be called so: 1 to 63 letters, digits, '.', '_', '-'; no '.' first.
bool is_context_name(const std::string& name);

/// The paths of the calling user's context `name`; not empty: `directory` and `socket` instead of
/// the usual ones. Throws NodeError for a name that is none.
ContextPaths context_paths(const std::string& name, const std::string& directory = "",
                           const std::string& socket = "");

/// A program or file that came with this one: next to it in a build, or installed. `places`: from
/// the program's own directory; `otherwise`: if it is in none of them.
std::string companion(const std::vector<std::string>& places, const std::string& otherwise);

/// Makes a directory (0700) and those above it, or finds that it is there: ours, and closed to all
/// others. Throws NodeError.
void make_private_directory(const std::string& path);

/// Throws NodeError unless `path` is a directory of ours that is closed to all others (ENOENT:
/// there is nothing).
void require_private_directory(const std::string& path);

/// Throws NodeError unless the directory lies on tmpfs, where memory is and locks are the node's.
void require_tmpfs(const std::string& directory);

}  // namespace aep
