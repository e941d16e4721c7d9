// Purpose: see event_commands.hpp.
// Who calls it: see event_commands.hpp.
// Crash rule: see event_commands.hpp.
#include "tests/sharing/event_commands.hpp"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <set>
#include <thread>

#include "include/aep/dsm.hpp"

namespace aep::test {
namespace {

const char* kind_of(const dsm_event& event) {
    switch (event.kind) {
        case DSM_PEER_CAME:
            return "came";
        case DSM_PEER_LEFT:
            return "left";
        case DSM_PEER_DIED:
            return "died";
        case DSM_PEER_RENAMED:
            return "renamed";
        default:
            return "what?";
    }
}

/// "kind id name missed", or errno's name.
std::string next_event(const Words& w) {
    dsm_event event{};
    if (dsm_next_event(&event, sizeof event, w.number<int>(0)) != 0) return strerrorname_np(errno);
    return std::string(kind_of(event)) + " " + std::to_string(event.peer) + " " +
           (event.name[0] == '\0' ? "-" : event.name) + " " + std::to_string(event.missed);
}

/// The same in C++: "kind id name missed", "none", or errno's name.
std::string next_event_cxx(const Words& w) {
    try {
        const auto event = dsm::next_event(std::chrono::milliseconds(w.number<int>(0)));
        if (!event) return "none";
        const bool died = event->change == dsm::PeerChange::died;
        return (died ? "died " : "came ") + std::to_string(event->peer) + " " + event->name + " " +
               std::to_string(event->missed);
    } catch (const std::system_error& error) {
        return strerrorname_np(error.code().value());
    }
}

/// An event loop on the descriptor alone, edge-triggered: until so many have died. How many are there by what it was told, or what it was told that
/// cannot be.
std::string follow(const Words& w) {
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    epoll_event wanted{};
    wanted.events = EPOLLIN | EPOLLET;
    epoll_ctl(loop, EPOLL_CTL_ADD, dsm_fd(), &wanted);
    std::set<dsm_id> there;
    unsigned long left = w.number(0);
    std::string wrong;
    while (left != 0 && wrong.empty()) {
        if (epoll_wait(loop, &wanted, 1, -1) != 1) continue;
        dsm_event event{};
        while (dsm_next_event(&event, sizeof event, 0) == 0) {
            const bool known = there.count(event.peer) != 0;
            if (event.kind == DSM_PEER_CAME && !known) {
                there.insert(event.peer);
                left -= event.missed < left ? event.missed : left;
            } else if (event.kind == DSM_PEER_DIED) {
                // It may have come and gone between two looks.
                there.erase(event.peer);
                left -= event.missed + 1 < left ? event.missed + 1 : left;
            } else {
                wrong =
                    std::string(kind_of(event)) + (known ? " who is there" : " who is not there");
            }
        }
        if (errno != EAGAIN) wrong = strerrorname_np(errno);
        while (void* p = dsm_recv(DSM_ANY, 0, nullptr)) dsm_free(p);
    }
    close(loop);
    return wrong.empty() ? std::to_string(there.size()) : wrong;
}

/// One thread waits for an event for ever, and another takes part no more: what the first one is told.
std::string detach_beside_a_wait(const Words&) {
    std::atomic<int> tid{0}, error{0};
    std::thread waiter([&] {
        tid = gettid();
        dsm_event event{};
        while (dsm_next_event(&event, sizeof event, -1) == 0) continue;
        error = errno;
    });
    while (tid == 0) std::this_thread::yield();
    const std::string call = "/proc/self/task/" + std::to_string(tid) + "/syscall";
    for (std::string number; number != "202";)
        std::ifstream(call) >> number;  // it sleeps on a futex
    const int detached = dsm_detach();
    waiter.join();
    return detached == 0 ? strerrorname_np(error) : "not detached";
}

/// A child of a process that watches does not.
std::string forked(const Words&) {
    const pid_t child = fork();
    if (child == 0) {
        dsm_event event{};
        if (dsm_next_event(&event, sizeof event, 0) == 0 || errno != ENOTCONN) _exit(1);
        if (dsm_attach(nullptr) != 0) _exit(2);
        if (dsm_next_event(&event, sizeof event, 0) == 0 || errno != EINVAL) _exit(3);
        if (dsm_watch_peers(1) != 0) _exit(4);
        if (dsm_next_event(&event, sizeof event, 0) != 0 || event.kind != DSM_PEER_CAME) _exit(5);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return std::to_string(status);
}

/// What is no argument: "ok", or the first that is taken for one. A struct of a former version is filled as far as it goes.
std::string arguments(const Words&) {
    dsm_event event{};
    const auto refused = [](int result) { return result != 0 && errno == EINVAL; };
    if (!refused(dsm_next_event(nullptr, sizeof event, 0))) return "null";
    if (!refused(dsm_next_event(&event, std::size_t{1} << 40, 0))) return "a large event";
    event.missed = 77;
    if (dsm_next_event(&event, sizeof event.kind, 0) != 0) return strerrorname_np(errno);
    return event.kind == DSM_PEER_CAME && event.missed == 77 ? "ok" : "it was filled with more";
}

}  // namespace

const Commands EVENT_COMMANDS = {
    {"watch", [](const Words& w) { return ok_or_error(dsm_watch_peers(w.number<unsigned>(0))); }},
    {"event", next_event},
    {"cxxwatch", [](const Words&) { return dsm::watch_peers(), std::string("ok"); }},
    {"cxxevent", next_event_cxx},
    {"followpeers", follow},
    {"detachbesideevents", detach_beside_a_wait},
    {"forkevents", forked},
    {"eventarguments", arguments},
};

}  // namespace aep::test
