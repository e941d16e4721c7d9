// Purpose: what the applications hand to each other, whatever carries it: an object, which is a body of bytes, or a
//          structure, which is a body that begins with a pointer to nodes that point at each other.
// Who calls it: the applications and the transports.
// Crash rule: plain data.
#pragma once

#include <cstdint>

namespace aep::apps {

/// A node of a list or of a tree; what every structure is made of. One cache line.
struct Node {
    std::uint64_t value;
    Node* left;  // of a list: the next one
    Node* right;
    std::uint64_t payload[5];
};
static_assert(sizeof(Node) == 64);

/// What the body of a structure begins with.
struct Structure {
    Node* first;
};

/// A list of `count` nodes with the values 0, 1, ... `make()` gives an uninitialised node.
template <class Make>
Node* build_list(std::uint64_t count, Make&& make) {
    Node* first = nullptr;
    Node** link = &first;
    for (std::uint64_t i = 0; i < count; ++i) {
        Node* node = make();
        *node = {.value = i, .left = nullptr, .right = nullptr, .payload = {}};
        *link = node;
        link = &node->left;
    }
    return first;
}

/// A full binary tree of that height (0: one node) whose values count from `number` in preorder.
template <class Make>
Node* build_tree(unsigned height, std::uint64_t& number, Make&& make) {
    Node* node = make();
    *node = {.value = number++, .left = nullptr, .right = nullptr, .payload = {}};
    if (height != 0) {
        node->left = build_tree(height - 1, number, make);
        node->right = build_tree(height - 1, number, make);
    }
    return node;
}

/// The sum of a list's values.
inline std::uint64_t walk_list(const Node* node) {
    std::uint64_t sum = 0;
    for (; node != nullptr; node = node->left) sum += node->value;
    return sum;
}

/// The sum of a tree's values.
inline std::uint64_t walk_tree(const Node* node) {
    return node == nullptr ? 0 : node->value + walk_tree(node->left) + walk_tree(node->right);
}

}  // namespace aep::apps
