// Purpose: see group_commands.hpp.
// Who calls it: see group_commands.hpp.
// Crash rule: see group_commands.hpp.
#include "tests/sharing/group_commands.hpp"

#include <errno.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "include/aep/dsm.h"

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
                (dsm_group_free(group, static_cast<char*>(p) + 16) == 0 || errno != EINVAL))
                return "interior";
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
    for (unsigned t = 0; t < threads; ++t)
        running.emplace_back([&, t] { answers[t] = against_model(group, t + 1, steps, false); });
    for (std::thread& thread : running) thread.join();
    for (const std::string& answer : answers)
        if (answer != "ok") return answer;
    return "ok";
}

/// What is replaced as a whole, again and again, while others look at it: some 25 KB in many objects, each marked.
struct Page {
    Page* next;
    std::uint64_t first_mark;
    std::uint64_t filling[120];
    std::uint64_t last_mark;
};
struct Edition {
    Page* pages;
    std::uint64_t mark;
};
struct Board {
    std::atomic<Edition*> current;
};
constexpr unsigned PAGES = 25;

/// One after the other, each in place of the former, which is freed at once.
bool replace(dsm_group* group, unsigned times) {
    auto* board = static_cast<Board*>(dsm_group_root(group));
    if (board == nullptr) {
        board = static_cast<Board*>(dsm_group_alloc(group, sizeof(Board)));
        if (board == nullptr) return false;
        board->current = nullptr;
        if (dsm_group_set_root(group, board) != 0) return false;
    }
    for (; times != 0; --times) {
        Edition* const former = board->current;
        auto* edition = static_cast<Edition*>(dsm_group_alloc(group, sizeof(Edition)));
        if (edition == nullptr) return false;
        *edition = {nullptr, former == nullptr ? 1 : former->mark + 1};
        for (unsigned i = 0; i < PAGES; ++i) {
            auto* page = static_cast<Page*>(dsm_group_alloc(group, sizeof(Page)));
            if (page == nullptr) return false;
            page->next = edition->pages;
            page->first_mark = page->last_mark = edition->mark;
            edition->pages = page;
        }
        board->current = edition;
        if (former == nullptr) continue;
        for (Page *page = former->pages, *next; page != nullptr; page = next) {
            next = page->next;
            if (dsm_group_free(group, page) != 0) return false;
        }
        if (dsm_group_free(group, former) != 0) return false;
    }
    return true;
}

/// Whether the edition there is is whole, from its beginning to its end.
bool is_whole(const Board& board) {
    const Edition* const edition = board.current;
    unsigned pages = 0;
    for (const Page* page = edition->pages; page != nullptr; page = page->next) {
        if (page->first_mark != edition->mark || page->last_mark != edition->mark) return false;
        if (++pages > PAGES) return false;
    }
    return pages == PAGES;
}

/// Looks again and again, in a thread, until it is asked what it has seen.
class Watcher {
  public:
    void begin(dsm_group* group) {
        looks_ = broken_ = 0;
        going_ = true;
        thread_ = std::thread([this, group] {
            while (going_) {
                const auto* board = static_cast<const Board*>(dsm_group_root(group));
                if (board == nullptr || !is_whole(*board)) ++broken_;
                if (dsm_group_quiesce(group) != 0) ++broken_;
                ++looks_;
            }
        });
    }
    /// Until it has begun and ended a whole look from now on: what was freed before is nobody's to see.
    std::string look() const {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        for (const unsigned long enough = looks_ + 2; looks_ < enough; std::this_thread::yield())
            if (std::chrono::steady_clock::now() > end) return "does not look";
        return "looked";
    }
    std::string end() {
        going_ = false;
        thread_.join();
        return std::to_string(broken_) + (looks_ != 0 ? " looked" : " nothing");
    }

  private:
    std::atomic<bool> going_{false};
    std::atomic<unsigned long> looks_{0}, broken_{0};
    std::thread thread_;
};
Watcher watcher;

/// "bytes deferred references writer".
std::string facts_of(dsm_group* group) {
    dsm_group_info info{};
    if (dsm_group_inspect(group, &info, sizeof info) != 0) return strerrorname_np(errno);
    // An older program knows less of it.
    dsm_group_info less{};
    less.deferred = 99;
    dsm_group_inspect(group, &less, sizeof less.bytes);
    if (less.bytes != info.bytes || less.deferred != 99) return "wrote beyond the size";
    return std::to_string(info.bytes) + " " + std::to_string(info.deferred) + " " +
           std::to_string(info.references) + " " + std::to_string(info.writer);
}

/// Looks at a list that came with a message, as far as it goes: its writer may just be prolonging it.
void look_at(const List& list) {
    unsigned nodes = 0;
    for (const Node* n = list.first; n != nullptr && nodes < 1000; n = n->next)
        nodes += n->value != ~std::uint64_t{0};
}

/// Groups that a peer has a reference of, one each, and what it does with them at random.
class Churn {
  public:
    Churn(dsm_id peer, unsigned seed) : peer_(peer), random_(seed) {
        held_.reserve(64);  // a full pool is none of its business
    }

    void step() {
        dsm_group* const some = held_.empty() ? nullptr : held_[random_() % held_.size()];
        const auto what = random_() % 8;
        if (what == 0)
            make();
        else if (what == 3 || what == 4)
            receive();
        else if (some != nullptr)
            change(some, what);
        while (held_.size() > 20) {
            dsm_free(held_.back());
            held_.pop_back();
        }
    }

  private:
    void make() {
        if (dsm_group* made = dsm_group_create(random_() % 100'000)) {
            held_.push_back(made);
            prolong(made, 100, 40);
        }
    }

    void receive() {
        dsm_info info{};
        void* root = dsm_recv(DSM_ANY, 0, &info);
        if (root == nullptr) return;
        if (info.group == nullptr) {
            dsm_free(root);
            return;
        }
        if (root != info.group) look_at(*static_cast<const List*>(dsm_group_root(info.group)));
        held_.push_back(info.group);
    }

    void change(dsm_group* group, std::mt19937::result_type what) {
        switch (what) {
            case 1:
                if (dsm_group_bytes(group) < MOST_BYTES) {
                    prolong(group, static_cast<unsigned>(random_() % 500),
                            std::size_t{16} << random_() % 9);
                }
                break;
            case 2:
                dsm_send(random_() % 2 == 0 ? peer_ : dsm_self(), group);
                break;
            case 5:
                dsm_group_hand_over(group, peer_);
                break;
            default:
                drop(group);
        }
    }

    void drop(dsm_group* group) {
        std::swap(*std::find(held_.begin(), held_.end(), group), held_.back());
        held_.pop_back();
        if (random_() % 2 != 0 || dsm_group_close(group) != 0) dsm_free(group);
    }

    const dsm_id peer_;
    std::mt19937 random_;
    std::vector<dsm_group*> held_;
};

/// Makes, grows, sends, receives, reads, hands over and drops groups for ever.
[[noreturn]] void churn_groups(dsm_id peer, unsigned seed) {
    for (Churn churn(peer, seed);;) churn.step();
}

dsm_group* group_of(const Words& words) { return words.pointer<dsm_group>(0); }

}  // namespace

const Commands GROUP_COMMANDS = {
    {"gnew", [](const Words& w) { return address_text(dsm_group_create(w.number(0))); }},
    {"galloc",
     [](const Words& w) { return address_text(dsm_group_alloc(group_of(w), w.number(1))); }},
    {"galigned",
     [](const Words& w) {
         return address_text(dsm_group_aligned_alloc(group_of(w), w.number(1), w.number(2)));
     }},
    {"gfree",
     [](const Words& w) { return ok_or_error(dsm_group_free(group_of(w), w.pointer(1))); }},
    {"gsetroot",
     [](const Words& w) { return ok_or_error(dsm_group_set_root(group_of(w), w.pointer(1))); }},
    {"groot", [](const Words& w) { return address_text(dsm_group_root(group_of(w))); }},
    {"gof", [](const Words& w) { return address_text(dsm_group_of(w.pointer(0))); }},
    {"gbytes", [](const Words& w) { return number_or_error(dsm_group_bytes(group_of(w))); }},
    {"ghand",
     [](const Words& w) { return ok_or_error(dsm_group_hand_over(group_of(w), w.number(1))); }},
    {"gquiesce", [](const Words& w) { return ok_or_error(dsm_group_quiesce(group_of(w))); }},
    {"gfacts", [](const Words& w) { return facts_of(group_of(w)); }},
    {"gtake", [](const Words& w) { return ok_or_error(dsm_group_take_over(group_of(w))); }},
    {"greplace",
     [](const Words& w) {
         return ok_or_error(replace(group_of(w), w.number<unsigned>(1)) ? 0 : -1);
     }},
    {"at", [](const Words& w) { return address_text(*w.pointer<void*>(0)); }},
    {"put",
     [](const Words& w) {
         *w.pointer<volatile std::uint64_t>(0) = w.number<std::uint64_t>(1);
         return std::string("ok");
     }},
    {"word",
     [](const Words& w) {
         return std::to_string(w.pointer<std::uint64_t>(0)[w.number(1) / sizeof(std::uint64_t)]);
     }},
    {"gwhole",
     [](const Words& w) {
         return std::string(is_whole(*w.pointer<const Board>(0)) ? "whole" : "broken");
     }},
    {"gwatch",
     [](const Words& w) {
         watcher.begin(group_of(w));
         return std::string("going");
     }},
    {"glook", [](const Words&) { return watcher.look(); }},
    {"gwatched", [](const Words&) { return watcher.end(); }},
    {"gclose", [](const Words& w) { return ok_or_error(dsm_group_close(group_of(w))); }},
    {"gprolong",
     [](const Words& w) {
         return ok_or_error(prolong(group_of(w), w.number<unsigned>(1), w.number(2)) ? 0 : -1);
     }},
    {"gsum", [](const Words& w) { return sum_of(w.pointer<const List>(0)); }},
    {"gmodel",
     [](const Words& w) {
         return against_model(group_of(w), w.number<unsigned>(1), w.number<unsigned>(2), true);
     }},
    {"gthreads",
     [](const Words& w) {
         return in_threads(group_of(w), w.number<unsigned>(1), w.number<unsigned>(2));
     }},
    {"gcost",
     [](const Words& w) { return pair_cost(group_of(w), w.number<unsigned>(1), w.number(2)); }},
    {"gchurn",
     [](const Words& w) {
         std::thread(churn_groups, w.number(0), w.number<unsigned>(1)).detach();
         return std::string("going");
     }},
};

}  // namespace aep::test
