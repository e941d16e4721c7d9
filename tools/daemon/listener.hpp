// Purpose: the context's socket: who may listen there, and who comes in.
// Who calls it: daemon/connections.cpp.
// Crash rule: a socket that a killed daemon left is replaced by the next one, which has the
//             context's lock.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "node/unique_fd.hpp"

namespace aep {

/// One that has connected.
struct Peer {
    UniqueFd fd;
    UniqueFd process;  // a pidfd
    pid_t pid = 0;     // 0: not visible from here
    uid_t uid = 0;
};

class Listener {
  public:
    /// Listens at `path`, for this user and root. Throws NodeError.
    explicit Listener(const std::string& path);
    ~Listener();  // the socket's file goes
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    int fd() const { return fd_.get(); }
    /// Who waits first; never waits itself. Nothing: nobody does, or descriptors lack: starved().
    std::optional<Peer> accept();
    /// Whether the last one could not be let in for lack of descriptors or memory: he waits on.
    bool starved() const { return starved_; }

  private:
    std::string path_;
    UniqueFd fd_;
    bool starved_ = false;
};

/// Lets this process have as many descriptors as it may. How many that is.
size_t raise_descriptor_limit();

}  // namespace aep
