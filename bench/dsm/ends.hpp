// Purpose: two processes that exchange references: calls and their answers, a stream, a list and a
//          tree that one builds and the other one walks. Written once for every system.
// Who calls it: ours.cpp and flat.cpp.
// Crash rule: nothing outlives the processes.
//
// An End has an Object, and allocate(size), drop(object), address(object), send(object) to the
// other end, receive() that waits, and walk_list(handle), walk_tree(handle).
#pragma once

#include "bench/dsm/timing.hpp"

namespace aep::bench {

enum class Command : std::uint64_t { drop, echo, walk_list, walk_tree, end };

/// What every object that is sent begins with.
struct Message {
    Command command;
    std::uint64_t root;    // of a walk: handle of the first node, see Node
    std::uint64_t result;  // of a walk: the sum of the nodes' values
    double walk_ns;        // of a walk: processor time
    std::uint64_t more;    // of a walk: so many references follow, held until it is over
};

/// A node of a list or tree. Handles are what the system makes of them; 0: none.
struct Node {
    std::uint64_t value;
    std::uint64_t left;  // of a list: the next one
    std::uint64_t right;
    std::uint64_t payload[5];
};
static_assert(sizeof(Node) == 64);

/// A new node as its maker hands it out.
struct Made {
    std::uint64_t handle;
    Node* node;
};

/// A tree of that height (0: one node), numbered in the order of the walk. `make()` makes a node.
template <class Make>
std::uint64_t build_tree(unsigned height, std::uint64_t& number, Make&& make) {
    const Made made = make();
    *made.node = {};
    made.node->value = number++;
    if (height != 0) {
        made.node->left = build_tree(height - 1, number, make);
        made.node->right = build_tree(height - 1, number, make);
    }
    return made.handle;
}

template <class Make>
std::uint64_t build_list(std::uint64_t count, Make&& make) {
    std::uint64_t first = 0;
    Node* last = nullptr;
    for (std::uint64_t i = 0; i < count; ++i) {
        const Made made = make();
        *made.node = {};
        made.node->value = i;
        (last == nullptr ? first : last->left) = made.handle;
        last = made.node;
    }
    return first;
}

/// The walk that a message asks for.
template <class End>
void obey(End& end, Message& message) {
    std::vector<typename End::Object> held;
    for (std::uint64_t i = 0; i < message.more; ++i) held.push_back(end.receive());
    const double begin = thread_ns();
    message.result = message.command == Command::walk_list ? end.walk_list(message.root)
                                                           : end.walk_tree(message.root);
    message.walk_ns = thread_ns() - begin;
    for (const auto& object : held) end.drop(object);
}

/// Does what messages say until one says end.
template <class End>
void serve(End& end) {
    for (;;) {
        const typename End::Object object = end.receive();
        auto* message = static_cast<Message*>(end.address(object));
        const Command command = message->command;
        if (command == Command::walk_list || command == Command::walk_tree) obey(end, *message);
        if (command != Command::drop && command != Command::end) end.send(object);
        end.drop(object);
        if (command == Command::end) return;
    }
}

/// Sends `object` and waits until it comes back.
template <class End>
void call(End& end, typename End::Object object) {
    end.send(object);
    end.drop(end.receive());
}

template <class End>
typename End::Object new_message(End& end, Command command) {
    const typename End::Object object = end.allocate(sizeof(Node));
    *static_cast<Message*>(end.address(object)) = {command, 0, 0, 0, 0};
    return object;
}

/// A reference there and back: `rpc`, ns.
template <class End>
void rpc(End& end, unsigned calls) {
    const typename End::Object object = new_message(end, Command::echo);
    constexpr unsigned PARTS = 100;  // each shorter than a time slice
    std::vector<double> times;
    for (unsigned part = 0; part < PARTS; ++part) {
        const double begin = now_ns();
        for (unsigned i = 0; i < calls / PARTS; ++i) call(end, object);
        times.push_back((now_ns() - begin) / (calls / PARTS));
    }
    print("rpc", median(times));
    end.drop(object);
}

/// References one way, dropped by the receiver as they come: `stream`, ns each.
template <class End>
void stream(End& end, unsigned count) {
    constexpr unsigned OBJECTS = 64;
    std::vector<typename End::Object> objects;
    for (unsigned i = 0; i < OBJECTS; ++i) objects.push_back(new_message(end, Command::drop));
    const typename End::Object last = new_message(end, Command::echo);
    call(end, last);
    constexpr unsigned PART = 256;  // shorter than a time slice
    std::vector<double> times;
    for (unsigned part = 0; part < count / PART; ++part) {
        const double begin = now_ns();
        for (unsigned i = 0; i < PART; ++i) end.send(objects[i % OBJECTS]);
        call(end, last);
        times.push_back((now_ns() - begin) / PART);
    }
    print("stream", median(times));
    for (const auto& object : objects) end.drop(object);
    end.drop(last);
}

/// Sends what leads to `root`, and `more` references after it; the receiver's walk is checked: its
/// processor time in ns.
template <class End>
double walk(End& end, typename End::Object object, Command command, std::uint64_t root,
            std::uint64_t count, const std::vector<typename End::Object>& more = {}) {
    auto* message = static_cast<Message*>(end.address(object));
    *message = {command, root, 0, 0, more.size()};
    end.send(object);
    for (const auto& one : more) end.send(one);
    end.drop(end.receive());
    expect(message->result == count * (count - 1) / 2, "the walk met other nodes than were built");
    return message->walk_ns;
}

/// Processor time of a structure's life, ns.
struct Times {
    double build, walk, drop;
};

/// Calls `structure()` (Times) twice and prints, a node: of the first time, when the memory is new
/// to both processes, `new_all`; of the second, when it has been used before, the rest.
template <class Structure>
void print_structure(std::uint64_t count, Structure&& structure) {
    const double nodes = static_cast<double>(count);
    const Times first = structure();
    const Times second = structure();
    print("new_all", (first.build + first.walk) / nodes);
    print("build", second.build / nodes);
    print("walk", second.walk / nodes);
    print("all", (second.build + second.walk) / nodes);
    print("drop", second.drop / nodes);
}

}  // namespace aep::bench
