// Purpose: see server.hpp.
// Who calls it: daemon/main.cpp.
// Crash rule: see server.hpp.
#include "tools/daemon/server.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cstring>

#include "node/answer.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "tools/daemon/torn_file.hpp"

namespace aep {
namespace {

constexpr u64 SOON_MS = 100;  // while something waits

constexpr u64 SETTLING_MS = 10;  // between sweeps then

NodeError no_loop() {
    return NodeError(errno, fmt::format("cannot make the loop: {}", errno_text(errno)));
}

/// A descriptor that the loop cannot do without.
UniqueFd needed(int fd) {
    if (fd < 0) throw no_loop();
    return UniqueFd(fd);
}

int open_pidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

bool is_free(u32 client) {
    return client_at(client).state.load() == static_cast<u32>(ClientState::free);
}

}  // namespace

Server::Server(NodeHost& host, Capture& capture, Completion& completion, Log log,
               ServiceManager& manager, std::function<void()> hang_up)
    : host_(host),
      capture_(capture),
      completion_(completion),
      log_(std::move(log)),
      manager_(manager),
      hang_up_(std::move(hang_up)),
      epoll_(needed(epoll_create1(EPOLL_CLOEXEC))),
      timer_(needed(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK))),
      connections_(host.options().paths.socket, log_,
                   [this](u32 id, int fd, u32 events) {
                       return watch(id == 0 ? Source::listening : Source::connection, id, fd,
                                    events);
                   }),
      settling_(log_),
      began_ns_(monotonic_ns()) {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    signals_ = needed(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    const auto always = [this](Source source, int fd) {
        if (fd >= 0 && !watch(source, 0, fd, EPOLLIN)) throw no_loop();
    };
    always(Source::signal, signals_.get());
    always(Source::timer, timer_.get());
    always(Source::doorbell, capture_.doorbell_fd());
    always(Source::completer, completion_.event_fd());
    if (MembershipEngine* const engine = host_.options().nodes.engine; engine != nullptr)
        always(Source::engine, engine->event_fd());
    // Clients that an earlier daemon let in.
    for (u32 i = 1; i <= context().max_clients; ++i) {
        if (!is_free(i)) {
            watch_process(i);
            const auto process = processes_.find(i);
            if (process == processes_.end()) continue;  // dead
            const pid_t pid = static_cast<pid_t>(client_at(i).pid);
            // The number is a client's word: it may be another user's process, in whose death nobody here has a part.
            const std::string why = is_of_user(pid, context().uid)
                                        ? capture_.watch(i, pid, process->second.get())
                                        : fmt::format("process {} is another user's", pid);
            if (!why.empty()) {
                log_(LogLevel::error,
                     fmt::format("client {}: its operations are not protected: {}", i, why));
            }
        }
    }
}

bool Server::watch(Source source, u32 id, int fd, u32 events) {
    if (events == 0) return epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr) == 0;
    epoll_event event{};
    event.events = events;
    event.data.u64 = static_cast<u64>(source) << 32 | id;
    return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0 ||
           (errno == EEXIST && epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) == 0);
}

bool Server::run() {
    completion_.begin();
    settling_.begin(find_left());
    sweep();
    while (!ends_) {
        if (found_torn_file()) {
            log_(LogLevel::error,
                 "the context's file or the pool's was cut short while we served it, by a process "
                 "of this user or by hand: end its clients, and take it down: aep down --force");
            return false;
        }
        if (settling_.goes_on() && settling_.is_over()) let_queued_in();
        epoll_event events[64];
        const int count = epoll_wait(epoll_.get(), events, 64, -1);
        for (int i = 0; i < count && !ends_; ++i) {
            take(static_cast<Source>(events[i].data.u64 >> 32),
                 static_cast<u32>(events[i].data.u64), events[i].events);
        }
    }
    if (removes_) remove();
    return true;
}

/// One event.
void Server::take(Source source, u32 id, u32 events) {
    switch (source) {
        case Source::listening:
            connections_.accept();
            if (!connections_.accepting()) set_timer(true);
            break;
        case Source::signal: {
            signalfd_siginfo signal{};
            if (read(signals_.get(), &signal, sizeof signal) != sizeof signal) break;
            if (signal.ssi_signo == SIGHUP) {
                hang_up_();
                break;
            }
            log_(LogLevel::info, "asked to end: the context stays for the next daemon");
            ends_ = true;
            break;
        }
        case Source::timer: {
            u64 expirations;
            if (read(timer_.get(), &expirations, sizeof expirations) <= 0) break;
            connections_.end_idle();
            connections_.accept_again();
            sweep();
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
        case Source::engine:
            host_.options().nodes.engine->on_event();
            sweep();
            break;
        case Source::connection:
            if ((events & EPOLLOUT) != 0) flush(id);
            if ((events & ~u32{EPOLLOUT}) != 0) serve(id);
            break;
        case Source::process:
            process_ended(id);
            break;
    }
}

/// Takes the context down, with all that outlives the daemon.
void Server::remove() {
    host_.remove();
    capture_.remove();
    unlink(host_.options().paths.log().c_str());
    unlink(host_.options().paths.older_log().c_str());
    unlink(host_.options().paths.socket.c_str());
    if (host_.options().paths.own_runtime) rmdir(host_.options().paths.runtime_directory().c_str());
    // Who asked for it learns that it is done by the end of the connection.
}

void Server::serve(u32 id) {
    Connection* const found = connections_.find(id);
    if (found == nullptr) return;
    Connection& connection = *found;
    while (!connection.ended() && !connection.close_when_sent && !ends_) {
        const std::optional<std::string> message = connection.receive();
        if (!message) break;
        if (connection.deserted()) return end_connection(id);
        handle(connection, *message);
    }
    flush(id);
}

void Server::flush(u32 id) {
    Connection* const found = connections_.find(id);
    if (found == nullptr) return;
    Connection& connection = *found;
    bool more = connection.flush();
    if (more && !watch(Source::connection, id, connection.fd(), EPOLLIN | EPOLLOUT)) {
        connection.close_when_sent = true;  // the rest of it is lost, and he sees that by the end
        more = false;
    }
    if (connection.ended() || (!more && connection.close_when_sent && !removes_))
        end_connection(id);
}

void Server::end_connection(u32 id) {
    const u32 client = connections_.find(id)->client;
    connections_.end(id);
    if (client != 0) recover(client);
}

/// The one place where what goes wrong with a message ends: it is answered, whatever it is.
void Server::handle(Connection& connection, const std::string& message) {
    const bool for_people = message.front() != '\0';  // PROTOCOL_MAGIC begins with it
    const auto refuse = [&](int error, const std::string& why) {
        log_(LogLevel::warning, fmt::format("pid {}: {}", connection.pid(), why));
        if (for_people)
            connection.queue_text(refusal(why));
        else
            connection.send_answer(make_answer(error, why));
        connection.close_when_sent = true;
    };
    try {
        if (message.size() > LONGEST_MESSAGE) {
            refuse(EMSGSIZE, fmt::format("a message of more than {} bytes", LONGEST_MESSAGE));
        } else if (for_people) {
            connection.queue_text(command(message, connection));
            connection.close_when_sent = true;
        } else if (const std::string why = serve_client(connection, message); !why.empty()) {
            refuse(EPROTO, why);
        }
    } catch (const std::exception& error) {
        refuse(EIO, fmt::format("its message could not be served: {}", error.what()));
    }
}

/// A client's message. What is wrong with it; empty: nothing.
std::string Server::serve_client(Connection& connection, const std::string& message) {
    AskMessage ask{};
    if (message.size() != sizeof ask)
        return fmt::format("a message of {} bytes, expected {}", message.size(), sizeof ask);
    std::memcpy(static_cast<void*>(&ask), message.data(), sizeof ask);
    // Whoever is let in is watched, and its threads are looked for, by the connection's number.
    if (connection.sender() != connection.pid()) {
        return fmt::format(
            "asked by process {} over a connection that it has inherited: it has to "
            "make one of its own",
            connection.sender());
    }
    if (ask.magic == PROTOCOL_MAGIC && ask.ask == static_cast<u32>(Ask::complete_slot)) {
        complete(connection, ask);
        return "";
    }
    if (ask.ask != static_cast<u32>(Ask::attach) || connection.client != 0 || connection.queued)
        return fmt::format("asks for {}, which is nothing that it may", ask.ask);
    if (settling_.goes_on())
        connection.queued = ask;
    else
        attach(connection, ask);
    return "";
}

/// Clients that died before this daemon served, and are not taken back at once.
std::vector<u32> Server::find_left() {
    std::vector<u32> left;
    for (u32 i = 1; i <= context().max_clients; ++i) {
        if (is_free(i)) continue;
        const RecoveryState state = recover(i);
        const bool dies = state == RecoveryState::alive && processes_.count(i) != 0 &&
                          is_ending(static_cast<pid_t>(client_at(i).pid));
        if (dies || state == RecoveryState::waiting) left.push_back(i);
    }
    return left;
}

void Server::let_queued_in() {
    settling_.end();
    std::vector<u32> queued;
    for (const auto& [id, connection] : connections_.all())
        if (connection->queued) queued.push_back(id);
    for (const u32 id : queued) {
        Connection& connection = *connections_.find(id);
        const AskMessage ask = *connection.queued;
        connection.queued.reset();
        attach(connection, ask);
        flush(id);
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
            host_.turn_away(admission, fmt::format("its operations cannot be protected: {}", why));
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
    for (u32 i = 1; i <= context().max_clients; ++i)
        if (i != client && !is_free(i) && client_at(i).pid == client_at(client).pid) recover(i);
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
    if (answer.error == EINPROGRESS)
        connection.waiting_for_slot = ask.slot + 1;
    else if (!connection.send_answer(answer))
        connection.close_when_sent = true;
}

/// The completer has answered: so do we, to clients that wait for it.
void Server::answer_waiting() {
    for (const auto& [id, connection] : connections_.all()) {
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
    if (!watch(Source::process, client, fd.get(), EPOLLIN)) return;  // sweeps find its end
    processes_[client] = std::move(fd);
}

void Server::process_ended(u32 client) {
    processes_.erase(client);
    recover(client);
}

RecoveryState Server::recover(u32 client) {
    const pid_t pid = static_cast<pid_t>(client_at(client).pid);
    const RecoveryState state = host_.recover(client).state;
    switch (state) {
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
    return state;
}

Sweep Server::sweep() {
    capture_.look_after();
    std::vector<std::pair<u32, pid_t>> before;
    for (u32 i = 1; i <= context().max_clients; ++i)
        if (!is_free(i)) before.emplace_back(i, static_cast<pid_t>(client_at(i).pid));
    const Sweep done = host_.sweep(monotonic_ms());
    manager_.say_alive(monotonic_ms());
    for (const auto& [client, pid] : before) {
        if (!is_free(client)) continue;
        capture_.unwatch(client, pid);
        processes_.erase(client);
    }
    if (done.drained && !ends_) {
        log_(LogLevel::info, "drained: the node leaves the pool");
        ends_ = removes_ = true;
    }
    set_timer(done.busy);
    return done;
}

void Server::set_timer(bool soon) {
    u64 ms = std::min(host_.period_ms(), manager_.period_ms());
    if (soon || !connections_.accepting()) ms = std::min(SOON_MS, ms);
    if (settling_.goes_on()) ms = std::min(SETTLING_MS, ms);
    itimerspec at{};
    at.it_value.tv_sec = static_cast<time_t>(ms / 1000);
    at.it_value.tv_nsec = static_cast<long>(ms % 1000 * 1'000'000);
    timerfd_settime(timer_.get(), 0, &at, nullptr);
}

}  // namespace aep
