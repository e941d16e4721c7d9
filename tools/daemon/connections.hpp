// Purpose: who has come over the context's socket: how many of one user may be there, who goes because he wants nothing,
//          and who waits outside while there are no descriptors for him.
// Who calls it: daemon/server.cpp, which serves them.
// Crash rule: nothing that outlives the daemon but the socket's file (listener.hpp).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "node/log.hpp"
#include "tools/daemon/connection.hpp"
#include "tools/daemon/listener.hpp"

namespace aep {

class Connections {
  public:
    /// Makes the loop look at a descriptor for `events`, 0: no more; at the listener's if `id` is 0, else at a
    /// connection's. False with errno.
    using Watch = std::function<bool(u32 id, int fd, u32 events)>;

    /// Listens at `path`. Throws NodeError.
    Connections(const std::string& path, Log log, Watch watch);

    /// The listener has news: one comes in, or is told why not.
    void accept();
    /// False: descriptors lack, and who comes waits until accept_again().
    bool accepting() const { return accepting_; }
    void accept_again();

    /// Who came to nobody's benefit goes: his descriptors are wanted by others.
    void end_idle();

    /// Null: it has ended.
    Connection* find(u32 id);
    /// Ends one: there is room for another.
    void end(u32 id);
    /// By their ids.
    const std::map<u32, std::unique_ptr<Connection>>& all() const { return connections_; }

  private:
    void refuse(Connection& connection, const std::string& why);

    Log log_;
    Watch watch_;
    size_t most_;  // of one user
    Listener listener_;
    std::map<u32, std::unique_ptr<Connection>> connections_;
    u32 next_ = 1;
    bool accepting_ = false;
};

}  // namespace aep
