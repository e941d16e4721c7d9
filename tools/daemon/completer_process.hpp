// Purpose: the completer as the daemon's child: starting it, jobs one way, reports the other, its
//          end.
// Who calls it: CompleterKeeper.
// Crash rule: a completer ends with its daemon. What it was in the middle of is the provider's to
//             see to.
#pragma once

#include <functional>
#include <string>

#include "aep-lib/completer/protocol.hpp"
#include "node/completion.hpp"
#include "node/unique_fd.hpp"

namespace aep {

class CompleterProcess {
  public:
    CompleterProcess();
    ~CompleterProcess() { end(); }
    CompleterProcess(const CompleterProcess&) = delete;
    CompleterProcess& operator=(const CompleterProcess&) = delete;

    /// Keeps what a completer of that context needs; `program`: empty: the one that came with this
    /// one. Why there can be none; empty: it can be started.
    std::string prepare(const WatchedContext& watched, const std::string& program);
    /// Descriptions of the context file and of the image that hold none of the daemon's locks.
    int context_fd() const { return context_.get(); }
    int image_fd() const { return image_.get(); }

    /// Starts one as the tenant. `captures_fd`: the capture map, or -1. An error's text; empty: it
    /// runs.
    std::string start(int captures_fd);
    /// Kills the one that runs, and waits until it is gone. How it ended, as waitpid says it.
    int end();

    bool runs() const { return pid_ != 0; }
    pid_t pid() const { return pid_; }
    /// False: its socket is full, or it is dead.
    bool send_job(u32 slot);

    /// Readable when reports wait, or it is dead: one descriptor, whichever completer runs.
    int event_fd() const { return events_.get(); }
    /// Or when this one is; it stays the caller's.
    void add_event(int fd);
    /// Calls take(report) for each report that waits, until that is false. False: the completer is
    /// dead, or says something that is no report.
    bool receive(const std::function<bool(const CompleterReport&)>& take);

  private:
    std::string program_;
    UniqueFd context_, image_, pool_, constants_;
    UniqueFd events_;  // an epoll that holds the socket
    UniqueFd socket_;
    pid_t pid_ = 0;
};

}  // namespace aep
