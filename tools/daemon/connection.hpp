// Purpose: one connection of a client or of the command line: messages in, messages out, without
//          ever waiting for the peer.
// Who calls it: daemon/server.cpp, daemon/connections.cpp.
// Crash rule: a peer that dies ends its connection; what was not sent is lost with it.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "node/unique_fd.hpp"
#include "shim/context/daemon_protocol.hpp"
#include "tools/daemon/listener.hpp"

namespace aep {

/// What anybody may send us.
inline constexpr size_t LONGEST_MESSAGE = 16 * KiB;

class Connection {
  public:
    explicit Connection(Peer peer) : peer_(std::move(peer)) { stir(); }
    /// What was sent arrives: nothing that the peer said is left unread, which would make of the
    /// end a reset, and of an answer that waits for him an error.
    ~Connection();
    Connection(Connection&&) = default;

    int fd() const { return peer_.fd.get(); }
    int process() const { return peer_.process.get(); }  // a pidfd
    pid_t pid() const { return peer_.pid; }
    uid_t uid() const { return peer_.uid; }

    u32 client = 0;                    // admitted as this one; 0: not
    u32 waiting_for_slot = 0;          // 1 + a slot that is being completed for it
    std::optional<AskMessage> queued;  // asks to be let in, and waits
    bool close_when_sent = false;

    /// Nobody's business any more: no client, waits for nothing of ours, and neither said nor took
    /// anything for `ns`.
    bool idle(u64 now_ns, u64 ns) const {
        return client == 0 && waiting_for_slot == 0 && !queued && now_ns - stirred_ns_ > ns;
    }

    /// One message, or the beginning of one that is too long: LONGEST_MESSAGE + 1 bytes. Empty:
    /// none is there now; the connection's end sets `ended`.
    std::optional<std::string> receive();
    bool ended() const { return ended_; }
    /// The process that has sent the last message; 0: not visible from here. It may have inherited
    /// the connection, which is of the process pid().
    pid_t sender() const { return sender_; }
    /// Whether the peer has left: nobody waits for what he asked for, and it is not done.
    bool deserted() const;

    /// Sends an answer with descriptors now. False: it could not be sent.
    bool send_answer(const AnswerMessage& answer, const std::vector<int>& fds = {});
    /// Queues a text, cut into messages.
    void queue_text(const std::string& text);
    /// Sends what the socket takes. Whether something is left.
    bool flush();

  private:
    void stir();

    Peer peer_;
    pid_t sender_ = 0;
    u64 stirred_ns_ = 0;  // when it last said or took something
    bool ended_ = false;
    std::deque<std::string> queue_;
};

}  // namespace aep
