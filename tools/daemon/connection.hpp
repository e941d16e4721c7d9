// Purpose: one connection of a client or of the command line: messages in, messages out, without
//          ever waiting for the peer.
// Who calls it: daemon/server.cpp.
// Crash rule: a peer that dies ends its connection; what was not sent is lost with it.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "shim/daemon_protocol.hpp"
#include "tools/node/unique_fd.hpp"

namespace aep {

class Connection {
  public:
    Connection(UniqueFd fd, UniqueFd process, pid_t pid, uid_t uid)
        : fd_(std::move(fd)), process_(std::move(process)), pid_(pid), uid_(uid) {}

    int fd() const { return fd_.get(); }
    int process() const { return process_.get(); }  // a pidfd
    pid_t pid() const { return pid_; }
    uid_t uid() const { return uid_; }

    u32 client = 0;            // admitted as this one; 0: not
    u32 waiting_for_slot = 0;  // 1 + a slot that is being completed for it
    bool close_when_sent = false;

    /// One message; empty: none is there now; the connection's end sets `ended`.
    std::optional<std::string> receive();
    bool ended() const { return ended_; }

    /// Sends an answer with descriptors now. False: it could not be sent.
    bool send_answer(const AnswerMessage& answer, const std::vector<int>& fds = {});
    /// Queues a text, cut into messages.
    void queue_text(const std::string& text);
    /// Sends what the socket takes. Whether something is left.
    bool flush();

  private:
    UniqueFd fd_;
    UniqueFd process_;
    pid_t pid_;
    uid_t uid_;
    bool ended_ = false;
    std::deque<std::string> queue_;
};

}  // namespace aep
