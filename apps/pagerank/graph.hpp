// Purpose: a graph made of nodes that point at each other, its division into parts, and one step of PageRank over a part.
//          What is computed does not depend on who computes it: each sum is taken in one order.
// Who calls it: functions.hpp; the first function, to check the result, reckons all of it alone.
// Crash rule: plain data.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "apps/common/failure.hpp"
#include "apps/common/object.hpp"

namespace aep::apps::pagerank {

/// The graph that the same options always give. Ranks are dealt in pieces of `per_piece` vertices, a power of two.
struct Shape {
    std::uint32_t vertices;
    std::uint32_t degree;  // links to a vertex, on average
    std::uint32_t per_piece;

    std::uint32_t pieces() const { return (vertices - 1) / per_piece + 1; }
    /// The first vertex of a piece; behind the last piece: how many there are.
    std::uint32_t begin_of(std::uint32_t piece) const {
        return std::min(vertices, piece * per_piece);
    }
    std::uint32_t in_piece(std::uint32_t piece) const {
        return begin_of(piece + 1) - begin_of(piece);
    }
    /// The first piece of the `part`th of `parts`.
    std::uint32_t first_of(std::uint64_t part, std::uint64_t parts) const {
        return static_cast<std::uint32_t>(pieces() * part / parts);
    }
};

/// Pieces that are no larger than `bytes` and give each of `parts` at least one.
inline Shape shape_of(std::uint32_t vertices, std::uint32_t degree, std::size_t bytes,
                      std::uint32_t parts) {
    const std::size_t most = std::min(bytes / sizeof(double), std::size_t{vertices / parts});
    verify(most != 0, "pagerank: there are more workers than vertices");
    return {vertices, degree, static_cast<std::uint32_t>(std::bit_floor(most))};
}

// ---- the graph: a list of vertices, each with a list of the links that lead to it

inline constexpr std::size_t LINK_BYTES = sizeof(std::uint32_t);
inline constexpr std::uint32_t LINKS_IN_NODE = sizeof(Node::payload) / LINK_BYTES;

/// A vertex: `value` links lead to it, `left` is the next vertex, `right` the first links; so many lead away from it.
inline std::uint64_t& leading_away(Node& vertex) { return vertex.payload[0]; }
/// Some links: `value` of them, `left` the next ones. Where the `i`th comes from:
inline std::uint32_t link(const Node& links, std::uint64_t i) {
    std::uint32_t from = 0;
    std::memcpy(&from, reinterpret_cast<const char*>(links.payload) + i * sizeof from, sizeof from);
    return from;
}

/// Numbers that look like chance (splitmix64).
inline std::uint64_t scattered(std::uint64_t of) {
    of += 0x9e3779b97f4a7c15;
    of = (of ^ (of >> 30)) * 0xbf58476d1ce4e5b9;
    of = (of ^ (of >> 27)) * 0x94d049bb133111eb;
    return of ^ (of >> 31);
}

inline std::uint32_t links_to(const Shape& shape, std::uint32_t vertex) {
    return static_cast<std::uint32_t>(scattered(vertex) % (2 * shape.degree + 1));
}
/// Few vertices have most of the links that lead away.
inline std::uint32_t origin(const Shape& shape, std::uint32_t vertex, std::uint32_t i) {
    const std::uint64_t number = scattered(std::uint64_t{vertex} << 32 | i) >> 11;
    const double x = static_cast<double>(number) * 0x1p-53;
    return static_cast<std::uint32_t>(x * x * shape.vertices);
}
inline std::size_t nodes_with(std::uint64_t links) {
    return 1 + (links + LINKS_IN_NODE - 1) / LINKS_IN_NODE;
}
/// Nodes of the whole graph at most.
inline std::size_t most_nodes(const Shape& shape) {
    return shape.vertices * nodes_with(2 * shape.degree);
}
inline std::size_t nodes_of_graph(const Shape& shape) {
    std::size_t nodes = 0;
    for (std::uint32_t v = 0; v < shape.vertices; ++v) nodes += nodes_with(links_to(shape, v));
    return nodes;
}

/// A vertex with its links, which `origin_of(i)` gives; `make()` gives an uninitialised node.
template <class Make, class OriginOf>
Node* build_vertex(std::uint64_t links, std::uint64_t away, Make&& make, OriginOf&& origin_of) {
    Node* vertex = make();
    *vertex = {.value = links, .left = nullptr, .right = nullptr, .payload = {}};
    leading_away(*vertex) = away;
    Node** rest = &vertex->right;
    for (std::uint64_t done = 0; done < links;) {
        Node* some = make();
        const std::uint64_t here = std::min<std::uint64_t>(links - done, LINKS_IN_NODE);
        *some = {.value = here, .left = nullptr, .right = nullptr, .payload = {}};
        for (std::uint64_t i = 0; i < here; ++i) {
            const std::uint32_t from = origin_of(done + i);
            std::memcpy(reinterpret_cast<char*>(some->payload) + i * sizeof from, &from,
                        sizeof from);
        }
        *rest = some;
        rest = &some->left;
        done += here;
    }
    return vertex;
}

template <class Make>
Node* build_graph(const Shape& shape, Make&& make) {
    std::vector<std::uint32_t> away(shape.vertices);
    for (std::uint32_t v = 0; v < shape.vertices; ++v)
        for (std::uint32_t i = 0; i < links_to(shape, v); ++i) ++away[origin(shape, v, i)];
    Node* first = nullptr;
    Node** next = &first;
    for (std::uint32_t v = 0; v < shape.vertices; ++v) {
        *next = build_vertex(links_to(shape, v), away[v], make, [&](std::uint64_t i) {
            return origin(shape, v, static_cast<std::uint32_t>(i));
        });
        next = &(*next)->left;
    }
    return first;
}

/// The next one in a list that somebody else has made.
inline Node& next_of(Node*& list) {
    verify(list != nullptr, "pagerank: a graph has too few nodes");
    Node& here = *list;
    list = here.left;
    return here;
}

/// Calls see(where it comes from) for each link that leads to the vertex, in order.
template <class See>
void each_link(const Node& vertex, See&& see) {
    Node* rest = vertex.right;
    for (std::uint64_t left = vertex.value; left != 0;) {
        const Node& links = next_of(rest);
        verify(links.value != 0 && links.value <= std::min<std::uint64_t>(left, LINKS_IN_NODE),
               "pagerank: a vertex has too many links");
        for (std::uint64_t i = 0; i < links.value; ++i) see(link(links, i));
        left -= links.value;
    }
}

/// A copy of the next `count` vertices of a list.
template <class Make>
Node* copy_vertices(Node*& list, std::uint64_t count, Make&& make) {
    Node* first = nullptr;
    Node** next = &first;
    for (; count != 0; --count) {
        Node& vertex = next_of(list);
        std::vector<std::uint32_t> from;
        each_link(
            vertex, [&](std::uint32_t one) { from.push_back(one); });
        *next = build_vertex(vertex.value, leading_away(vertex), make,
                             [&](std::uint64_t i) { return from[i]; });
        next = &(*next)->left;
    }
    return first;
}
/// The nodes of the next `count` vertices of a list.
inline std::size_t count_nodes(Node* list, std::uint64_t count) {
    std::size_t nodes = 0;
    for (; count != 0; --count) nodes += nodes_with(next_of(list).value);
    return nodes;
}

// ---- ranks

/// What each vertex hands on along each of its links, by pieces.
using Shares = std::vector<const double*>;

/// Which step it is, and what it needs of the one before: none before the first.
struct Step {
    const Shares* before;
    double stranded;  // ranks of vertices from which no link leads away: they are everybody's
    bool last;        // its ranks are the result, not what vertices hand on
};

/// The next `count` vertices of a list: what they hand on, or their ranks, goes to `out`. What is stranded there.
inline double reckon(const Shape& shape, const Step& step, Node*& list, std::uint32_t count,
                     double* out) {
    constexpr double DAMPING = 0.85;
    const double base = (1 - DAMPING + DAMPING * step.stranded) / shape.vertices;
    const std::uint32_t mask = shape.per_piece - 1;
    const int shift = std::countr_zero(shape.per_piece);
    double stranded = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        Node& vertex = next_of(list);
        double rank = 1.0 / shape.vertices;
        if (step.before != nullptr) {
            double sum = 0;
            each_link(vertex, [&](std::uint32_t from) {
                verify(from < shape.vertices, "pagerank: a link comes from nowhere");
                sum += (*step.before)[from >> shift][from & mask];
            });
            rank = base + DAMPING * sum;
        }
        const std::uint64_t away = leading_away(vertex);
        if (away == 0) stranded += rank;
        out[i] = step.last ? rank : away == 0 ? 0 : rank / static_cast<double>(away);
    }
    return stranded;
}

/// All ranks after so many steps, by one alone.
inline std::vector<double> reckon_alone(const Shape& shape, Node* graph, std::uint32_t steps) {
    std::vector<double> before(shape.vertices);
    std::vector<double> now(shape.vertices);
    Shares shares;
    double stranded = 0;
    for (std::uint32_t number = 0; number <= steps; ++number) {
        shares.clear();
        for (std::uint32_t piece = 0; piece < shape.pieces(); ++piece)
            shares.push_back(before.data() + std::size_t{piece} * shape.per_piece);
        const Step step{number == 0 ? nullptr : &shares, stranded, number == steps};
        stranded = 0;
        Node* list = graph;
        for (std::uint32_t piece = 0; piece < shape.pieces(); ++piece)
            stranded += reckon(shape, step, list, shape.in_piece(piece),
                               now.data() + std::size_t{piece} * shape.per_piece);
        before.swap(now);
    }
    return before;
}

}  // namespace aep::apps::pagerank
