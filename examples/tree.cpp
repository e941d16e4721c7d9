// Purpose: a binary search tree that two processes write in turns: the first sows it, sends it and
//          hands the right to write over; the second adds to it where it is. C++ handles.
// Who calls it: people who begin, and the tests:
//     aep run -- tree grow 1000 & aep run -- tree sow 1000
// Crash rule: killed at any moment, either of them leaves nothing behind.
#include <aep/group.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

namespace dsm = aep::dsm;

struct Node {
    std::uint32_t key = 0;
    Node* below = nullptr;
    Node* above = nullptr;
};

/// The root of the group stays; that of the tree may change.
struct Tree {
    Node* top = nullptr;
    std::uint64_t nodes = 0;
};

void insert(const dsm::Group& group, Tree& tree, std::uint32_t key) {
    Node** place = &tree.top;
    while (*place != nullptr) {
        if ((*place)->key == key) return;
        place = key < (*place)->key ? &(*place)->below : &(*place)->above;
    }
    *place = group.make<Node>(key);
    ++tree.nodes;
}

std::uint64_t in_order(const Node* node, std::uint32_t& last, bool& sorted) {
    if (node == nullptr) return 0;
    const std::uint64_t below = in_order(node->below, last, sorted);
    sorted = sorted && (last == 0 || last < node->key);
    last = node->key;
    return below + 1 + in_order(node->above, last, sorted);
}

/// A number that no other index gives.
std::uint32_t key_of(std::uint32_t index) { return index * 2654435761u; }

void sow(std::uint32_t nodes) {
    dsm::attach("sower");
    const dsm::Id grower = dsm::lookup("grower").value();
    const dsm::Group group = dsm::Group::create();
    Tree* tree = group.make<Tree>();
    group.set_root(tree);
    for (std::uint32_t i = 1; i <= nodes; ++i) insert(group, *tree, key_of(i));
    group.send(grower);
    dsm::receive<std::uint32_t>(grower);  // it has it: now it can become the writer
    group.hand_over(grower);
    dsm::make<std::uint32_t>(nodes).send(grower);
}

void grow(std::uint32_t nodes) {
    dsm::attach("grower");
    std::puts("waiting");
    std::fflush(stdout);
    dsm::Root<Tree> got = dsm::receive_root<Tree>();
    dsm::make<std::uint32_t>(0u).send(got.sender());
    const auto sown = dsm::receive<std::uint32_t>(got.sender());
    const dsm::Group group(got.release());
    Tree* tree = group.root<Tree>();
    for (std::uint32_t i = *sown + 1; i <= *sown + nodes; ++i) insert(group, *tree, key_of(i));
    std::uint32_t last = 0;
    bool sorted = true;
    const std::uint64_t counted = in_order(tree->top, last, sorted);
    std::printf("%llu nodes, %s\n", static_cast<unsigned long long>(counted),
                sorted && counted == tree->nodes ? "sorted" : "broken");
}

}  // namespace

int main(int count, char** words) {
    if (count != 3) {
        std::fputs("usage: tree grow NODES | tree sow NODES\n", stderr);
        return 2;
    }
    const auto nodes = static_cast<std::uint32_t>(std::strtoul(words[2], nullptr, 10));
    try {
        if (std::string_view(words[1]) == "sow")
            sow(nodes);
        else
            grow(nodes);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "tree: %s\n", error.what());
        return 1;
    }
}
