// Purpose: what an application is written over, once: a transport makes objects and hands them to other members of a
//          team. aep.hpp, local.hpp and socket.hpp are transports, and bench/apps/flat.hpp is.
// Who calls it: the applications.
// Crash rule: that of each transport.
//
// A transport's World is made by the launcher before there are members (memory, sockets). A member is
// process i of a team and makes its end from it.
#pragma once

#include <poll.h>
#include <sched.h>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "apps/common/failure.hpp"
#include "apps/common/object.hpp"

namespace aep::apps {

/// Who may send to whom: pairs of members.
using Links = std::vector<std::pair<unsigned, unsigned>>;

/// Member 0 with all others.
inline Links star(unsigned members) {
    Links links;
    for (unsigned i = 1; i < members; ++i) links.emplace_back(0u, i);
    return links;
}

/// Each member with the next one, and the last with the first.
inline Links ring(unsigned members) {
    Links links;
    for (unsigned i = 0; i + 1 < members; ++i) links.emplace_back(i, i + 1);
    if (members > 2) links.emplace_back(members - 1, 0u);
    return links;
}

/// What a team of processes needs.
struct Plan {
    std::string team;  // a name no other team has meanwhile
    unsigned members = 0;
    Links links;
    std::size_t bytes_each = 0;      // that a member's objects take at most
    std::size_t largest = 0;         // bytes of an object
    std::size_t objects_each = 0;    // that a member has at a time, nodes too
    std::vector<std::string> nodes;  // sockets of the contexts that members join by turns
    unsigned stay = 1;               // so many neighbours join the same one
    bool all_are_mortal = false;     // the first member may be killed, too
};

/// A message as it is received, with a reference that the receiver drops.
template <class T>
struct Message {
    typename T::Object object;
    typename T::Peer from;
};

template <class T>
concept Transport = requires(T& t, typename T::Object object, typename T::Peer peer) {
    /// Its name on the command line, and whether the others go on when a member is killed.
    { T::NAME } -> std::convertible_to<const char*>;
    { T::SURVIVES } -> std::convertible_to<bool>;
    /// Whoever is called so, if it is there.
    { t.find(0u) } -> std::same_as<std::optional<typename T::Peer>>;
    /// A new object, and one with nodes, of which there will be so many: see object.hpp. add() makes a node.
    { t.make(std::size_t{}) } -> std::same_as<typename T::Object>;
    { t.make_structure(std::size_t{}, std::size_t{}) } -> std::same_as<typename T::Object>;
    { t.add(object) } -> std::same_as<Node*>;
    { t.body(object) } -> std::same_as<void*>;
    { t.size(object) } -> std::same_as<std::size_t>;
    /// Sends it; the caller's reference stays. False: the peer is dead.
    { t.send(peer, object) } -> std::same_as<bool>;
    /// Sends back what was received, with its body changed: the body alone where things are copied.
    { t.answer(peer, object) } -> std::same_as<bool>;
    /// The next message; none within the time (0: at once).
    { t.receive(int{}) } -> std::same_as<std::optional<Message<T>>>;
    { t.drop(object) } -> std::same_as<void>;
    /// Readable while a message may be waiting; then receive(0) until there is none.
    { t.descriptor() } -> std::same_as<int>;
};

/// Whoever is called so, when it is there; none: `over()`, which is asked now and then, is true. Throws when it does not come for
/// half a minute.
template <Transport T, class Over>
std::optional<typename T::Peer> wait_for_peer(T& transport, unsigned member, Over&& over) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
        if (auto found = transport.find(member)) return found;
        if (over()) return std::nullopt;
        verify(std::chrono::steady_clock::now() < end, "a member of the team does not come");
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}
template <Transport T>
typename T::Peer wait_for_peer(T& transport, unsigned member) {
    return *wait_for_peer(
        transport, member, [] { return false; });
}

/// How a member waits: it asks again and again, lets an event loop wait, or blocks in receive.
enum class Waiting { polling, loop, blocking };

/// The next message; none: `over()`, which is asked now and then, is true.
template <Transport T, class Over>
std::optional<Message<T>> wait_for_message(T& transport, Waiting waiting, Over&& over) {
    constexpr int LOOK_MS = 50;         // between two questions whether it is over
    constexpr unsigned PATIENCE = 256;  // questions before another process may run
    for (unsigned asked = 0;;) {
        const int timeout = waiting == Waiting::blocking ? LOOK_MS : 0;
        if (auto message = transport.receive(timeout)) return message;
        if (waiting == Waiting::polling) {
            __builtin_ia32_pause();
            if (++asked % PATIENCE != 0) continue;
            sched_yield();
        } else if (waiting == Waiting::loop) {
            pollfd wanted{.fd = transport.descriptor(), .events = POLLIN, .revents = 0};
            poll(&wanted, 1, LOOK_MS);
        }
        if (over()) return std::nullopt;
    }
}

}  // namespace aep::apps
