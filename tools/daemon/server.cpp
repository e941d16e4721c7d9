// Purpose: see server.hpp.
// Who calls it: daemon/main.cpp.
// Crash rule: see server.hpp.
#include "tools/daemon/server.hpp"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

#include "tools/node/node_error.hpp"
#include "tools/node/process_facts.hpp"

namespace aep {
namespace {

constexpr u64 SOON_MS = 100;  // while something waits

int open_pidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

/// The process at the other end, which its number may not name any more (Linux 6.5).
UniqueFd peer_process(int fd, pid_t pid) {
    constexpr int PEER_PIDFD = 77;  // SO_PEERPIDFD, which older headers lack
    int pidfd = -1;
    socklen_t length = sizeof pidfd;
    const bool got = getsockopt(fd, SOL_SOCKET, PEER_PIDFD, &pidfd, &length) == 0;
    return UniqueFd(got ? pidfd : open_pidfd(pid));
}

}  // namespace

Server::Server(NodeHost& host, Capture& capture, Completion& completion, Log log)
    : host_(host),
      capture_(capture),
      completion_(completion),
      log_(std::move(log)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      timer_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)),
      began_ns_(monotonic_ns()) {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGTERM, SIGINT}) sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    signals_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!epoll_ || !timer_ || !signals_) {
        throw NodeError(errno, "cannot make the loop: " + errno_text(errno));
    }
    listen();
    watch(Source::listening, 0, listening_.get(), EPOLLIN);
    watch(Source::signal, 0, signals_.get(), EPOLLIN);
    watch(Source::timer, 0, timer_.get(), EPOLLIN);
    if (capture_.doorbell_fd() >= 0) watch(Source::doorbell, 0, capture_.doorbell_fd(), EPOLLIN);
    if (completion_.event_fd() >= 0) watch(Source::completer, 0, completion_.event_fd(), EPOLLIN);
    // Clients that an earlier daemon let in.
    for (u32 i = 1; i <= context().max_clients; ++i) {
        if (client_at(i).state.load() != static_cast<u32>(ClientState::free)) {
            watch_process(i);
            const auto process = processes_.find(i);
            if (process == processes_.end()) continue;  // dead
            const pid_t pid = static_cast<pid_t>(client_at(i).pid);
            const std::string why = capture_.watch(i, pid, process->second.get());
            if (!why.empty()) {
                log_(LogLevel::error,
                     "client " + std::to_string(i) + ": its operations are not protected: " + why);
            }
        }
    }
}

Server::~Server() { unlink(host_.options().paths.socket.c_str()); }

void Server::watch(Source source, u32 id, int fd, u32 events) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = static_cast<u64>(source) << 32 | id;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0 && errno == EEXIST) {
        epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
    }
}

void Server::listen() {
    const std::string& path = host_.options().paths.socket;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        throw NodeError(ENAMETOOLONG,
                        "socket " + path + ": its path is too long, expected at most " +
                            std::to_string(sizeof address.sun_path - 1) + " bytes: give --socket");
    }
    path.copy(address.sun_path, path.size());
    listening_ = UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // We hold the context's lock: what lies there is a dead daemon's.
    struct stat st {};
    if (lstat(path.c_str(), &st) == 0 && S_ISSOCK(st.st_mode)) unlink(path.c_str());
    const mode_t before = umask(0177);
    const int bound = bind(listening_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    const int error = errno;
    umask(before);
    if (bound != 0 || ::listen(listening_.get(), 128) != 0) {
        throw NodeError(error, "socket " + path + ": " + errno_text(error));
    }
}

void Server::run() {
    completion_.begin();
    sweep();
    while (!ends_) {
        epoll_event events[64];
        const int count = epoll_wait(epoll_.get(), events, 64, -1);
        for (int i = 0; i < count && !ends_; ++i) {
            const u32 id = static_cast<u32>(events[i].data.u64);
            switch (static_cast<Source>(events[i].data.u64 >> 32)) {
                case Source::listening:
                    accept_connection();
                    break;
                case Source::signal:
                    log_(LogLevel::info, "asked to end: the context stays for the next daemon");
                    ends_ = true;
                    break;
                case Source::timer: {
                    u64 expirations;
                    if (read(timer_.get(), &expirations, sizeof expirations) > 0) sweep();
                    break;
                }
                case Source::doorbell:
                    capture_.on_doorbell();
                    sweep();
                    break;
                case Source::completer:
                    completion_.on_event();
                    answer_waiting();
                    sweep();
                    break;
                case Source::connection:
                    if ((events[i].events & EPOLLOUT) != 0) flush(id);
                    if ((events[i].events & ~u32{EPOLLOUT}) != 0) serve(id);
                    break;
                case Source::process:
                    process_ended(id);
                    break;
            }
        }
    }
    if (removes_) {
        host_.remove();
        capture_.remove();
        unlink(host_.options().paths.log().c_str());
        unlink(host_.options().paths.socket.c_str());
        if (host_.options().paths.own_runtime) {
            rmdir(host_.options().paths.runtime_directory().c_str());
        }
        // Who asked for it learns that it is done by the end of the connection.
    }
}

void Server::accept_connection() {
    UniqueFd fd(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    ucred peer{};
    socklen_t length = sizeof peer;
    if (!fd || getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return;
    const u32 id = next_connection_++;
    watch(Source::connection, id, fd.get(), EPOLLIN);
    UniqueFd process = peer_process(fd.get(), peer.pid);
    connections_[id] =
        std::make_unique<Connection>(std::move(fd), std::move(process), peer.pid, peer.uid);
}

void Server::serve(u32 id) {
    const auto found = connections_.find(id);
    if (found == connections_.end()) return;
    Connection& connection = *found->second;
    while (!connection.ended() && !connection.close_when_sent && !ends_) {
        const std::optional<std::string> message = connection.receive();
        if (!message) break;
        handle(connection, *message);
    }
    flush(id);
}

void Server::flush(u32 id) {
    const auto found = connections_.find(id);
    if (found == connections_.end()) return;
    Connection& connection = *found->second;
    const bool more = connection.flush();
    if (more) watch(Source::connection, id, connection.fd(), EPOLLIN | EPOLLOUT);
    if (connection.ended() || (!more && connection.close_when_sent && !removes_)) {
        end_connection(id);
    }
}

void Server::end_connection(u32 id) {
    const u32 client = connections_.at(id)->client;
    connections_.erase(id);  // and from the epoll set: nobody else has the description
    if (client != 0) recover(client);
}

void Server::handle(Connection& connection, const std::string& message) {
    if (message[0] == '{') {
        connection.queue_text(command(message, connection));
        connection.close_when_sent = true;
        return;
    }
    AskMessage ask{};
    if (message.size() != sizeof ask) {
        log_(LogLevel::warning, "pid " + std::to_string(connection.pid()) + ": a message of " +
                                    std::to_string(message.size()) + " bytes that is none of ours");
        connection.close_when_sent = true;
        return;
    }
    std::memcpy(static_cast<void*>(&ask), message.data(), sizeof ask);
    if (ask.magic == PROTOCOL_MAGIC && ask.ask == static_cast<u32>(Ask::complete_slot)) {
        complete(connection, ask);
    } else if (ask.ask == static_cast<u32>(Ask::attach) && connection.client == 0) {
        attach(connection, ask);
    } else {
        log_(LogLevel::warning, "pid " + std::to_string(connection.pid()) + ": asks for " +
                                    std::to_string(ask.ask) + ", which is nothing that it may");
        connection.close_when_sent = true;
    }
}

void Server::attach(Connection& connection, const AskMessage& ask) {
    if (host_.full()) sweep();  // the dead ones are unwatched, too
    Admission admission = host_.admit(connection.pid(), connection.uid(), ask);
    std::vector<int> fds;
    if (admission.answer.error == 0) {
        for (const UniqueFd& fd : admission.fds) fds.push_back(fd.get());
        // Before the answer: the process may be killed in its first operation.
        const u32 client = admission.answer.client;
        if (std::string why = capture_.watch(client, connection.pid(), connection.process());
            !why.empty()) {
            host_.turn_away(admission, "its operations cannot be protected: " + why);
            fds.clear();
        }
    }
    const bool sent = connection.send_answer(admission.answer, fds);
    for (UniqueFd& fd : admission.fds) fd.reset();
    if (admission.answer.error != 0) {
        connection.close_when_sent = true;
        return;
    }
    const u32 client = admission.answer.client;
    // A process attaches once: what it was before an exec is over.
    for (u32 i = 1; i <= context().max_clients; ++i) {
        const bool used = client_at(i).state.load() != static_cast<u32>(ClientState::free);
        if (i != client && used && client_at(i).pid == client_at(client).pid) recover(i);
    }
    if (!sent) {
        connection.close_when_sent = true;
        recover(client);
        return;
    }
    connection.client = client;
    host_.admitted(client);
    watch_process(client);
}

void Server::complete(Connection& connection, const AskMessage& ask) {
    const AnswerMessage answer = host_.complete_slot(connection.pid(), ask);
    if (answer.error == EINPROGRESS) {
        connection.waiting_for_slot = ask.slot + 1;
    } else if (!connection.send_answer(answer)) {
        connection.close_when_sent = true;
    }
}

/// The completer has answered: so do we, to clients that wait for it.
void Server::answer_waiting() {
    for (auto& [id, connection] : connections_) {
        if (connection->waiting_for_slot == 0) continue;
        AskMessage ask{};
        ask.slot = connection->waiting_for_slot - 1;
        connection->waiting_for_slot = 0;
        complete(*connection, ask);
    }
}

void Server::watch_process(u32 client) {
    const ClientEntry& entry = client_at(client);
    UniqueFd fd(open_pidfd(static_cast<pid_t>(entry.pid)));
    // Another process with its number: the client is dead, or in a pid namespace that we do not
    // see. The locks know.
    if (!fd || start_time_of(static_cast<pid_t>(entry.pid)) != entry.start_time) return;
    watch(Source::process, client, fd.get(), EPOLLIN);
    processes_[client] = std::move(fd);
}

void Server::process_ended(u32 client) {
    processes_.erase(client);
    recover(client);
}

void Server::recover(u32 client) {
    const pid_t pid = static_cast<pid_t>(client_at(client).pid);
    switch (host_.recover(client).state) {
        case RecoveryState::recovered:
            capture_.unwatch(client, pid);
            processes_.erase(client);
            set_timer(true);  // chunks in the cache
            break;
        case RecoveryState::waiting:
        case RecoveryState::frozen:
        case RecoveryState::alive:  // its memory may still be on the way out
            set_timer(true);
            break;
        case RecoveryState::none:
            break;
    }
}

Sweep Server::sweep() {
    capture_.look_after();
    std::vector<std::pair<u32, pid_t>> before;
    for (u32 i = 1; i <= context().max_clients; ++i) {
        if (client_at(i).state.load() != static_cast<u32>(ClientState::free)) {
            before.emplace_back(i, static_cast<pid_t>(client_at(i).pid));
        }
    }
    const Sweep done = host_.sweep(monotonic_ms());
    for (const auto& [client, pid] : before) {
        if (client_at(client).state.load() != static_cast<u32>(ClientState::free)) continue;
        capture_.unwatch(client, pid);
        processes_.erase(client);
    }
    set_timer(done.busy);
    return done;
}

void Server::set_timer(bool soon) {
    const u64 ms = soon ? std::min(SOON_MS, host_.period_ms()) : host_.period_ms();
    itimerspec at{};
    at.it_value.tv_sec = static_cast<time_t>(ms / 1000);
    at.it_value.tv_nsec = static_cast<long>(ms % 1000 * 1'000'000);
    timerfd_settime(timer_.get(), 0, &at, nullptr);
}

}  // namespace aep
