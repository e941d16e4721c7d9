// Purpose: see connections.hpp.
// Who calls it: see connections.hpp.
// Crash rule: see connections.hpp.
#include "tools/daemon/connections.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>

#include "node/answer.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"

namespace aep {
namespace {

constexpr u64 IDLE_NS = 10'000'000'000;
// Of one user, at the same time. A client that is let in closes its connection.
constexpr size_t MOST_CONNECTIONS = 1024;

}  // namespace

Connections::Connections(const std::string& path, Log log, Watch watch)
    : log_(std::move(log)),
      watch_(std::move(watch)),
      most_(std::min(MOST_CONNECTIONS, raise_descriptor_limit() / 4)),
      listener_(path) {
    accept_again();
    if (!accepting_)
        throw NodeError(errno, fmt::format("cannot make the loop: {}", errno_text(errno)));
}

void Connections::accept() {
    std::optional<Peer> peer = listener_.accept();
    if (!peer) {
        if (!listener_.starved()) return;
        log_(
            LogLevel::warning,
            "no descriptors for who comes: he waits; raise ulimit -n, or LimitNOFILE= of the unit");
        watch_(0, listener_.fd(), 0);
        accepting_ = false;
        return;
    }
    const auto his = [&](const auto& entry) { return entry.second->uid() == peer->uid; };
    const auto have = std::count_if(connections_.begin(), connections_.end(), his);
    Connection connection(std::move(*peer));
    if (static_cast<size_t>(have) >= most_) {
        return refuse(connection,
                      fmt::format("user {} has {} connections already: end some of them",
                                  connection.uid(), have));
    }
    const u32 id = next_++;
    if (!watch_(id, connection.fd(), EPOLLIN))
        return refuse(connection, fmt::format("cannot be listened to: {}", errno_text(errno)));
    connections_[id] = std::make_unique<Connection>(std::move(connection));
}

void Connections::refuse(Connection& connection, const std::string& why) {
    log_(LogLevel::warning, fmt::format("refused pid {}: {}", connection.pid(), why));
    connection.send_answer(make_answer(EAGAIN, why));
}

void Connections::accept_again() {
    if (!accepting_) accepting_ = watch_(0, listener_.fd(), EPOLLIN);
}

void Connections::end_idle() {
    const u64 now = monotonic_ns();
    std::erase_if(connections_,
                  [&](const auto& entry) { return entry.second->idle(now, IDLE_NS); });
}

Connection* Connections::find(u32 id) {
    const auto found = connections_.find(id);
    return found == connections_.end() ? nullptr : found->second.get();
}

void Connections::end(u32 id) {
    connections_.erase(id);  // and from the epoll set: nobody else has the description
    accept_again();
}

}  // namespace aep
