// Purpose: see group_commands.hpp.
// Who calls it: see group_commands.hpp.
// Crash rule: see group_commands.hpp.
#include "tests/sharing/group_commands.hpp"

#include <errno.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace aep::test {
namespace {

struct Node {
    Node* next;
    std::uint64_t value;
};
struct List {
    Node* first;
    std::uint64_t length;
};

constexpr std::size_t MOST_BYTES = 1 << 20;  // a group that is larger is not prolonged

std::uintptr_t number(const std::string& text) {
    return text.empty() ? 0 : std::strtoull(text.c_str(), nullptr, 16);
}

std::string said(int result) { return result == 0 ? "ok" : strerrorname_np(errno); }

std::string text_of(const void* p) {
    if (p == nullptr) return strerrorname_np(errno);
    char text[32];
    std::snprintf(text, sizeof text, "%llx",
                  static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(p)));
    return text;
}

/// Adds nodes of `size` bytes, whose values count on, to the list that is the group's root.
bool prolong(dsm_group* group, unsigned nodes, std::size_t size) {
    auto* list = static_cast<List*>(dsm_group_root(group));
    if (list == nullptr) {
        list = static_cast<List*>(dsm_group_alloc(group, sizeof(List)));
        if (list == nullptr) return false;
        *list = {};
        if (dsm_group_set_root(group, list) != 0) return false;
    }
    for (; nodes != 0; --nodes) {
        auto* node = static_cast<Node*>(dsm_group_alloc(group, size));
        if (node == nullptr) return false;
        *node = {list->first, list->length};
        list->first = node;
        ++list->length;
    }
    return true;
}

/// "length sum" of a list, or what is wrong with it.
std::string sum_of(const List* list) {
    std::uint64_t length = 0, sum = 0;
    for (const Node* n = list->first; n != nullptr; n = n->next) {
        if (n->value != list->length - 1 - length) return "broken";
        sum += n->value;
        ++length;
    }
    return std::to_string(length) + " " + std::to_string(sum);
}

/// Random blocks against a model: none overlaps another, each keeps its contents, is aligned and
/// is freed once.
/// With `misuse`, what is no live block is freed, too, and must be refused; only while no other
/// thread allocates.
std::string against_model(dsm_group* group, unsigned seed, unsigned steps, bool misuse) {
    std::mt19937 random(seed);
    struct Block {
        std::size_t bytes;
        unsigned char mark;
    };
    std::map<std::uintptr_t, Block> live;
    const auto sound = [&](std::uintptr_t at, const Block& b) {
        const auto* bytes = reinterpret_cast<const unsigned char*>(at);
        return b.bytes == 0 ||
               (bytes[0] == b.mark && bytes[b.bytes - 1] == b.mark && bytes[b.bytes / 2] == b.mark);
    };
    for (unsigned i = 0; i < steps; ++i) {
        if (live.size() < 300 && random() % 5 < 3) {
            const std::size_t alignment = std::size_t{1} << random() % 13;
            const std::size_t bytes = random() % (std::size_t{1} << (random() % 17));
            const auto at =
                reinterpret_cast<std::uintptr_t>(dsm_group_aligned_alloc(group, alignment, bytes));
            if (at == 0) return strerrorname_np(errno);
            if (at % alignment != 0 || at % 16 != 0) return "unaligned";
            const auto next = live.lower_bound(at);
            if (next != live.end() && at + bytes > next->first) return "overlap with the next";
            if (next != live.begin()) {
                const auto& before = *std::prev(next);
                if (before.first + before.second.bytes > at) return "overlap with the one before";
            }
            const Block b{bytes, static_cast<unsigned char>(random())};
            std::memset(reinterpret_cast<void*>(at), b.mark, bytes);
            live[at] = b;
        } else if (!live.empty()) {
            auto it = live.lower_bound(live.begin()->first +
                                       random() % (live.rbegin()->first - live.begin()->first + 1));
            if (!sound(it->first, it->second)) return "changed";
            void* p = reinterpret_cast<void*>(it->first);
            if (dsm_group_free(group, p) != 0) return "not freed";
            if (misuse && (dsm_group_free(group, p) == 0 || errno != EINVAL)) return "freed twice";
            if (misuse && it->second.bytes > 16 &&
                (dsm_group_free(group, static_cast<char*>(p) + 16) == 0 || errno != EINVAL)) {
                return "interior";
            }
            live.erase(it);
        }
    }
    for (const auto& [at, block] : live) {
        if (!sound(at, block)) return "changed at the end";
        if (dsm_group_free(group, reinterpret_cast<void*>(at)) != 0) return "not freed at the end";
    }
    return "ok";
}

/// Nanoseconds of an allocation and its free.
std::string pair_cost(dsm_group* group, unsigned pairs, std::size_t size) {
    timespec begin{}, end{};
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (unsigned i = 0; i < pairs; ++i) dsm_group_free(group, dsm_group_alloc(group, size));
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double ns = static_cast<double>(end.tv_sec - begin.tv_sec) * 1e9 +
                      static_cast<double>(end.tv_nsec - begin.tv_nsec);
    return std::to_string(ns / pairs);
}

/// Several threads of the writer allocate and free at once.
std::string in_threads(dsm_group* group, unsigned threads, unsigned steps) {
    std::vector<std::thread> running;
    std::vector<std::string> answers(threads);
    for (unsigned t = 0; t < threads; ++t) {
        running.emplace_back([&, t] { answers[t] = against_model(group, t + 1, steps, false); });
    }
    for (std::thread& thread : running) thread.join();
    for (const std::string& answer : answers) {
        if (answer != "ok") return answer;
    }
    return "ok";
}

}  // namespace

bool obey_group(const std::string& command, std::istringstream& words, std::string& answer) {
    if (command.empty() || command[0] != 'g') return false;
    std::string a, b, c;
    words >> a >> b >> c;
    auto* const group = reinterpret_cast<dsm_group*>(number(a));
    void* const second = reinterpret_cast<void*>(number(b));
    const auto count = [](const std::string& text) {
        return std::strtoull(text.c_str(), nullptr, 10);
    };
    if (command == "gnew") {
        answer = text_of(dsm_group_create(count(a)));
    } else if (command == "galloc") {
        answer = text_of(dsm_group_alloc(group, count(b)));
    } else if (command == "galigned") {
        answer = text_of(dsm_group_aligned_alloc(group, count(b), count(c)));
    } else if (command == "gfree") {
        answer = said(dsm_group_free(group, second));
    } else if (command == "gsetroot") {
        answer = said(dsm_group_set_root(group, second));
    } else if (command == "groot") {
        answer = text_of(dsm_group_root(group));
    } else if (command == "gof") {
        answer = text_of(dsm_group_of(group));
    } else if (command == "gbytes") {
        const std::size_t bytes = dsm_group_bytes(group);
        answer = bytes == 0 ? strerrorname_np(errno) : std::to_string(bytes);
    } else if (command == "ghand") {
        answer = said(dsm_group_hand_over(group, count(b)));
    } else if (command == "gclose") {
        answer = said(dsm_group_close(group));
    } else if (command == "gprolong") {
        answer = prolong(group, static_cast<unsigned>(count(b)), count(c)) ? "ok" : said(-1);
    } else if (command == "gsum") {
        answer = sum_of(reinterpret_cast<const List*>(group));
    } else if (command == "gmodel") {
        answer = against_model(group, static_cast<unsigned>(count(b)),
                               static_cast<unsigned>(count(c)), true);
    } else if (command == "gthreads") {
        answer =
            in_threads(group, static_cast<unsigned>(count(b)), static_cast<unsigned>(count(c)));
    } else if (command == "gcost") {
        answer = pair_cost(group, static_cast<unsigned>(count(b)), count(c));
    } else if (command == "gchurn") {
        const dsm_id peer = std::stoull(a);
        std::thread(churn_groups, peer, static_cast<unsigned>(std::stoul(b))).detach();
        answer = "going";
    } else {
        return false;
    }
    return true;
}

void churn_groups(dsm_id peer, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<dsm_group*> held;  // one reference each
    held.reserve(64);              // a full pool is none of its business
    for (;;) {
        dsm_group* const some = held.empty() ? nullptr : held[random() % held.size()];
        switch (random() % 8) {
            case 0:
                if (dsm_group* made = dsm_group_create(random() % 100'000)) {
                    held.push_back(made);
                    prolong(made, 100, 40);
                }
                break;
            case 1:
                if (some != nullptr && dsm_group_bytes(some) < MOST_BYTES) {
                    prolong(some, static_cast<unsigned>(random() % 500),
                            std::size_t{16} << random() % 9);
                }
                break;
            case 2:
                if (some != nullptr) dsm_send(random() % 2 == 0 ? peer : dsm_self(), some);
                break;
            case 3:
            case 4: {
                dsm_info info{};
                void* root = dsm_recv(DSM_ANY, 0, &info);
                if (root == nullptr) break;
                // A list that its writer is just prolonging is looked at as far as it goes.
                unsigned nodes = 0;
                if (info.group != nullptr && root != info.group) {
                    for (const Node* n =
                             static_cast<const List*>(dsm_group_root(info.group))->first;
                         n != nullptr && nodes < 1000; n = n->next) {
                        nodes += n->value != ~std::uint64_t{0};
                    }
                }
                if (info.group != nullptr) {
                    held.push_back(info.group);
                } else {
                    dsm_free(root);
                }
                break;
            }
            case 5:
                if (some != nullptr) dsm_group_hand_over(some, peer);
                break;
            default:
                if (some == nullptr) break;
                for (dsm_group*& g : held) {
                    if (g == some) {
                        std::swap(g, held.back());
                        break;
                    }
                }
                held.pop_back();
                if (random() % 2 != 0 || dsm_group_close(some) != 0) dsm_free(some);
        }
        while (held.size() > 20) {
            dsm_free(held.back());
            held.pop_back();
        }
    }
}

}  // namespace aep::test
