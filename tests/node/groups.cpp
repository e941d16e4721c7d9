// Purpose: the operations of groups against a model: random sequences of them, with deaths, after
//          which every reference, part, root and writer is right; and that the walk finds what is
//          planted.
// Who calls it: ctest. The operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "dsm-core/sharing/group_ops.hpp"
#include "tests/node/sharing_tables.hpp"

namespace aep {
namespace {

using namespace test;

constexpr u32 CLIENTS = 3;
constexpr u64 BLOCK = 64 * KiB;

/// What should be.
class Model {
  public:
    explicit Model(u64 seed) : random_(seed) {
        for (u32 c = 1; c <= CLIENTS; ++c) begin(c);
    }

    void step() {
        const u32 client = 1 + pick(CLIENTS);
        if (groups_.size() < 3) return make(client);
        switch (pick(12)) {
            case 0:
                return make(client);
            case 1:
            case 2:
                return extend(client, any());
            case 3:
                return set_root(client, any());
            case 4:
                return set_writer(client, any(), 1 + pick(CLIENTS));
            case 5:
                return send(client, 1 + pick(CLIENTS), any());
            case 6:
                return receive(client);
            case 7:
                return drop(client, any());
            case 8:
                return collect(client);
            case 9:
                return take_over(client, any());
            case 10:
                return count_unknown(client, any());
            default:
                if (pick(20) == 0) die(client);
        }
    }

    void verify() {
        u64 extents = 0;
        for (const Group& g : groups_) {
            extents += g.extents.size();
            for (const u64 name : {g.address(), g.root}) {
                if (name == 0) continue;
                const auto reply = ask(1, op::Query{name, true});
                ASSERT_EQ(reply.status, Status::ok);
                ASSERT_EQ(reply.references, references(g));
                const auto found = ask(1, op::FindGroup{name});
                ASSERT_EQ(found.status, g.held.count(1) != 0 ? Status::ok : Status::not_held);
                if (found.status == Status::ok) {
                    ASSERT_EQ(found.group, g.address());
                    ASSERT_EQ(export_at(static_cast<u32>(found.index)).writer, g.writer);
                }
            }
        }
        ASSERT_EQ(count_shares().groups, groups_.size());
        ASSERT_EQ(count_shares().extents, extents);
        ASSERT_EQ(walk(), "");
    }

    void end() {
        for (u32 c = 1; c <= CLIENTS; ++c) leave(c);
        ASSERT_EQ(walk(), "");
        ASSERT_EQ(count_shares().exports, 0u);
        ASSERT_EQ(count_shares().holders, 0u);
        ASSERT_EQ(count_shares().groups + count_shares().extents, 0u);
    }

  private:
    struct Part {
        u64 address;
        u32 owner;  // 0: dead
    };
    struct Group {
        Part own;
        std::map<u32, u32> held;
        u32 writer;
        u64 root = 0;
        std::vector<Part> extents;
        u64 address() const { return own.address; }
    };
    using Groups = std::deque<Group>;

    u32 pick(u32 n) { return static_cast<u32>(random_() % n); }
    Group& any() { return groups_[pick(static_cast<u32>(groups_.size()))]; }

    u64 references(const Group& g) const {
        u64 sum = 0;
        for (const auto& [client, count] : g.held) sum += count;
        for (const auto& [client, box] : boxes_)
            sum += static_cast<u64>(std::count(box.begin(), box.end(), g.address()));
        return sum;
    }

    void begin(u32 client) {
        ASSERT_EQ(perform(client, op::ClaimChunks{.count = 2}).status, Status::ok);
        const u64 first = chunk_address(ChunkIndex{first_chunk_of(client)});
        for (u64 at = 0; at < 2 * CHUNK_SIZE; at += BLOCK) free_[client].insert(first + at);
        ++client_at(client).generation;
        ASSERT_EQ(ask(client, op::Open{}).status, Status::ok);
    }

    u64 id_of(u32 client) { return aep::id_of(client, client_at(client).generation.load()).bits; }

    /// A block of the client's heap; 0: it has none left.
    u64 allocate(u32 client) {
        if (free_[client].empty()) return 0;
        return free_[client].extract(free_[client].begin()).value();
    }

    void make(u32 client) {
        const u64 at = allocate(client);
        if (at == 0) return;
        ASSERT_EQ(ask(client, op::MakeGroup{at, BLOCK}).status, Status::ok);
        ASSERT_EQ(ask(client, op::MakeGroup{at, BLOCK}).status, Status::exists);
        groups_.push_back(
            {.own = {at, client}, .held = {{client, 1}}, .writer = client, .extents = {}});
    }

    void extend(u32 client, Group& g) {
        const u64 at = allocate(client);
        if (at == 0) return;
        const auto reply = ask(client, op::ExtendGroup{g.address(), at, BLOCK});
        if (g.writer != client) {
            ASSERT_EQ(reply.status, Status::not_writer);
        } else if (g.extents.size() == MAX_EXTENTS) {
            ASSERT_EQ(reply.status, Status::limit);
        } else {
            ASSERT_EQ(reply.status, Status::ok);
            g.extents.push_back({at, client});
            // An extent is no object.
            ASSERT_EQ(ask(client, op::Send{at, {id_of(client)}, BLOCK}).status, Status::not_held);
            ASSERT_EQ(ask(client, op::Drop{at}).status, Status::not_held);
            ASSERT_EQ(ask(client, op::FindGroup{at}).status, Status::miss);
            return;
        }
        free_[client].insert(at);
    }

    void set_root(u32 client, Group& g) {
        const u32 which = pick(static_cast<u32>(g.extents.size()) + 1);
        const u64 part = which == 0 ? g.address() : g.extents[which - 1].address;
        const u64 root = pick(8) == 0 ? 0 : part + 16 + 16 * pick(100);
        const auto reply = ask(client, op::SetRoot{g.address(), root, 32});
        if (g.writer != client) {
            ASSERT_EQ(reply.status, Status::not_writer);
        } else if (references(g) != g.held[client]) {
            ASSERT_EQ(reply.status, Status::busy);
        } else {
            ASSERT_EQ(reply.status, Status::ok);
            if (g.root != 0 && g.root != root)
                ASSERT_EQ(ask(client, op::Query{g.root}).status, Status::miss);
            g.root = root;
            ASSERT_EQ(ask(client, op::SetRoot{g.address(), part + BLOCK - 16, 32}).status,
                      Status::not_live);
        }
    }

    void set_writer(u32 client, Group& g, u32 to) {
        const auto reply = ask(client, op::SetWriter{g.address(), {id_of(to)}});
        if (g.writer != client) {
            ASSERT_EQ(reply.status, Status::not_writer);
        } else if (g.held.count(to) == 0) {
            ASSERT_EQ(reply.status, Status::not_held);
        } else {
            ASSERT_EQ(reply.status, Status::ok);
            g.writer = to;
        }
    }

    void take_over(u32 client, Group& g) {
        const auto reply = ask(client, op::TakeGroup{g.address()});
        if (g.held.count(client) == 0) {
            ASSERT_EQ(reply.status, Status::not_held);
        } else if (g.writer != 0 && g.writer != client) {
            ASSERT_EQ(reply.status, Status::not_writer);
        } else {
            ASSERT_EQ(reply.status, Status::ok);
            g.writer = client;
        }
    }

    /// Of those that are neither the client's nor those of another one that it knows.
    void count_unknown(u32 client, Group& g) {
        op::CountUnknown question{.group = g.address()};
        const u32 known = pick(CLIENTS + 1);
        if (known != client) question.known[pick(op::MAX_GROUP_READERS)] = static_cast<u16>(known);
        const auto reply = ask(client, question);
        const bool held = g.held.count(client) != 0;
        ASSERT_EQ(reply.status, held ? Status::ok : Status::not_held);
        if (!held) return;
        u64 expected = references(g);
        for (const auto& [holder, count] : g.held)
            if (holder == client || holder == known) expected -= count;
        ASSERT_EQ(reply.unknown, expected);
    }

    u64 name_of(const Group& g) { return g.root != 0 && pick(2) == 0 ? g.root : g.address(); }

    void send(u32 client, u32 to, Group& g) {
        const bool drop = pick(3) == 0;
        const auto reply =
            ask(client, op::Send{.object = name_of(g), .to = {id_of(to)}, .drop = drop});
        ASSERT_EQ(reply.status, g.held.count(client) != 0 ? Status::ok : Status::not_held);
        if (reply.status != Status::ok) return;
        boxes_[to].push_back(g.address());
        if (drop && --g.held[client] == 0) forget(client, g);
        ASSERT_EQ(reply.left_group, g.held.count(client) == 0 ? g.address() : 0);
    }

    void receive(u32 client) {
        const auto reply = ask(client, op::Receive{});
        auto& box = boxes_[client];
        ASSERT_EQ(reply.status, box.empty() ? Status::miss : Status::ok);
        if (box.empty()) return;
        ASSERT_EQ(reply.object, box.front());
        ASSERT_EQ(reply.kind, ObjectKind::group);
        ++at(box.front()).held[client];
        box.pop_front();
    }

    Group& at(u64 address) {
        return *std::find_if(
            groups_.begin(), groups_.end(), [&](const Group& g) { return g.address() == address; });
    }

    void drop(u32 client, Group& g) {
        const auto reply = ask(client, op::Drop{name_of(g)});
        if (g.held.count(client) == 0) {
            ASSERT_EQ(reply.status, Status::not_held);
            return;
        }
        ASSERT_EQ(reply.status, Status::ok);
        ASSERT_EQ(reply.memory, Memory::kept);  // also its owner gets it back by take_returned
        if (--g.held[client] == 0) forget(client, g);
        ASSERT_EQ(reply.left_group, g.held.count(client) == 0 ? g.address() : 0);
        remove_unreferenced();
    }

    static void forget(u32 client, Group& g) {
        g.held.erase(client);
        if (g.writer == client) g.writer = 0;
    }

    void remove_unreferenced() {
        const auto give = [&](const Part& part) {
            if (part.owner != 0) returned_[part.owner].insert(part.address);
        };
        for (auto it = groups_.begin(); it != groups_.end();) {
            if (references(*it) != 0) {
                ++it;
                continue;
            }
            give(it->own);
            for (const Part& extent : it->extents) give(extent);
            if (it->root != 0) ASSERT_EQ(ask(1, op::Query{it->root}).status, Status::miss);
            it = groups_.erase(it);
        }
    }

    void collect(u32 client) {
        for (;;) {
            const auto reply = ask(client, op::TakeReturned{});
            if (reply.status != Status::ok) break;
            for (u32 i = 0; i < reply.count; ++i) {
                ASSERT_EQ(returned_[client].erase(reply.objects[i]), 1u);
                free_[client].insert(reply.objects[i]);
            }
        }
        ASSERT_TRUE(returned_[client].empty());
    }

    void leave(u32 client) {
        while (ask(client, op::Leave{}).status == Status::ok) {
        }
    }

    void die(u32 client) {
        leave(client);
        boxes_[client].clear();
        for (Group& g : groups_) {
            forget(client, g);
            if (g.own.owner == client) g.own.owner = 0;
            for (Part& extent : g.extents)
                if (extent.owner == client) extent.owner = 0;
        }
        remove_unreferenced();
        returned_[client].clear();
        free_[client].clear();
        give_up_chunks(client);
        ASSERT_EQ(walk(), "");
        begin(client);
    }

    std::mt19937_64 random_;
    Groups groups_;
    std::map<u32, std::deque<u64>> boxes_;
    std::map<u32, std::set<u64>> free_, returned_;  // blocks of a client's heap
};

TEST(Groups, RandomOperationsKeepEveryCount) {
    for (u64 seed = 1; seed <= 8; ++seed) {
        with_tables([seed](Host&) {
            Model model(seed);
            for (int i = 0; i < 4000 && !testing::Test::HasFatalFailure(); ++i) {
                model.step();
                if (i % 10 == 0) model.verify();
            }
            model.end();
        });
    }
}

/// A group of client 1's with a root and two extents, that client 2 holds; its export's index.
u32 some_group() {
    for (u32 client : {1u, 2u}) {
        perform(client, op::ClaimChunks{.count = 2});
        client_at(client).generation = 7;
        ask(client, op::Open{});
    }
    const u64 at = chunk_address(ChunkIndex{first_chunk_of(1)});
    const u32 group = ask(1, op::MakeGroup{at, BLOCK}).index;
    for (u64 i = 1; i <= 2; ++i) ask(1, op::ExtendGroup{at, at + i * BLOCK, BLOCK});
    ask(1, op::SetRoot{at, at + BLOCK + 16, 32});
    ask(1, op::Send{at + BLOCK + 16, id_of(2, 7)});
    ask(2, op::Receive{});
    return group;
}

ExportSide& side_of(const Export& e) { return side_at(static_cast<u32>(&e - &export_at(0))); }

TEST(Groups, TheWalkFindsWhatIsPlanted) {
    const auto finds = [](const char* words, void (*damage)(Export & group)) {
        with_tables([&](Host&) {
            const u32 group = some_group();
            ASSERT_EQ(walk(), "");
            damage(export_at(group));
            EXPECT_NE(walk().find(words), std::string::npos) << words << ": " << walk();
        });
    };
    finds(
        "the count of groups is wrong", [](Export&) { ++share_client(1).groups; });
    finds(
        "the count of extents is wrong", [](Export&) { --share_client(1).extents; });
    finds(
        "so many groups have it", [](Export& g) { side_of(g).next_extent = NO_RECORD; });
    finds(
        "so many groups have it", [](Export& g) { g.root = NO_RECORD; });
    finds(
        "it is on another group's list",
        [](Export& g) { export_at(side_of(g).next_extent).group = 0; });
    finds(
        "it is part of no group", [](Export& g) { g.group = NO_RECORD; });
    finds(
        "it has too many extents",
        [](Export& g) {
            side_at(side_at(side_of(g).next_extent).next_extent).next_extent =
                side_of(g).next_extent;
        });
    finds(
        "its root is outside", [](Export& g) { export_at(g.root).address += CHUNK_SIZE; });
    finds(
        "its group has another root", [](Export& g) { g.root = side_of(g).next_extent; });
    finds("its writer does not hold it", [](Export& g) { g.writer = 3; });
}

/// As of a group that other nodes hold still, and nobody here.
TEST(Groups, WhatNobodyHoldsIsNotWritten) {
    with_tables([](Host&) {
        const u32 group = some_group();
        const u64 at = export_at(group).address;
        export_at(group).references = 0;
        EXPECT_EQ(ask(3, op::ExtendGroup{at, at + 3 * BLOCK, BLOCK}).status, Status::miss);
        EXPECT_EQ(ask(3, op::SetRoot{at, at + 64, 16}).status, Status::miss);
        EXPECT_EQ(ask(3, op::SetWriter{at, id_of(2, 7)}).status, Status::miss);
        EXPECT_EQ(ask(3, op::TakeGroup{at}).status, Status::miss);
        EXPECT_EQ(ask(3, op::CountUnknown{.group = at}).status, Status::miss);
    });
}

TEST(Groups, WhatIsNoneIsRefused) {
    with_tables([](Host&) {
        const u32 group = some_group();
        const u64 at = export_at(group).address, root = at + BLOCK + 16;
        const u64 others = chunk_address(ChunkIndex{first_chunk_of(2)});
        for (const u64 none : {u64{0}, ~u64{0}, at + 16, at + BLOCK, root, others}) {
            EXPECT_EQ(ask(1, op::ExtendGroup{none, at + 3 * BLOCK, BLOCK}).status, Status::miss);
            EXPECT_EQ(ask(1, op::SetRoot{none, at + 64, 16}).status, Status::miss);
            EXPECT_EQ(ask(1, op::SetWriter{none, 0}).status, Status::miss);
            EXPECT_EQ(ask(1, op::TakeGroup{none}).status, Status::miss);
            EXPECT_EQ(ask(1, op::CountUnknown{.group = none}).status, Status::miss);
        }
        EXPECT_EQ(ask(2, op::TakeGroup{at}).status, Status::not_writer);
        EXPECT_EQ(ask(3, op::TakeGroup{at}).status, Status::not_held);
        // Who names clients that are none, or one again and again, is told that there are others.
        op::CountUnknown wild{.group = at};
        for (u16& one : wild.known) one = 0xffff;
        EXPECT_EQ(ask(1, wild).unknown, ask(1, op::CountUnknown{.group = at}).unknown);
        for (u16& one : wild.known) one = 2;
        EXPECT_NE(ask(1, wild).unknown, 0u);
        for (const u64 memory : {u64{0}, ~u64{0}, others, at, at + BLOCK, root})
            EXPECT_EQ(ask(1, op::ExtendGroup{at, memory, BLOCK}).status, Status::not_held);
        EXPECT_EQ(ask(1, op::ExtendGroup{at, at + 3 * BLOCK, 0}).status, Status::not_held);
        EXPECT_EQ(ask(1, op::MakeGroup{others, BLOCK}).status, Status::not_held);
        EXPECT_EQ(ask(3, op::MakeGroup{others, BLOCK}).status, Status::gone);
        EXPECT_EQ(ask(1, op::SetWriter{at, id_of(3, 7)}).status, Status::gone);
        EXPECT_EQ(ask(1, op::SetWriter{at, id_of(2, 8)}).status, Status::gone);
        EXPECT_EQ(ask(2, op::SetWriter{at, 0}).status, Status::not_writer);
        EXPECT_EQ(ask(1, op::SetRoot{at, at + 64, 16}).status, Status::busy);
        EXPECT_EQ(ask(2, op::Drop{root}).status, Status::ok);
        for (const u64 outside : {at - 16, others, at + 3 * BLOCK, ~u64{0}, at + BLOCK})
            EXPECT_EQ(ask(1, op::SetRoot{at, outside, 16}).status, Status::not_live);
        EXPECT_EQ(ask(1, op::SetRoot{at, at + 64, ~u64{0}}).status, Status::not_live);
        EXPECT_EQ(ask(1, op::SetRoot{at, at + 64, 0}).status, Status::not_live);
        EXPECT_EQ(walk(), "");
    });
}

TEST(Groups, TablesThatAreFullAreSaid) {
    with_tables([](Host&) {
        const u32 group = some_group();  // four records
        const u64 at = export_at(group).address;
        EXPECT_EQ(ask(2, op::Drop{at}).status, Status::ok);
        EXPECT_EQ(ask(1, op::SetRoot{at, 0}).status, Status::ok);
        sharing().exports_present = sharing().exports_used + 1;
        // The root's record, and such as were never used.
        Supply& own = share_client(1).export_records;
        const u32 end = own.end;
        own.end.put(own.next);
        EXPECT_EQ(ask(1, op::ExtendGroup{at, at + 3 * BLOCK, BLOCK}).status, Status::ok);
        EXPECT_EQ(ask(1, op::SetRoot{at, at + 64, 16}).status, Status::need_records);
        EXPECT_EQ(ask(1, op::ExtendGroup{at, at + 4 * BLOCK, BLOCK}).status, Status::need_records);
        EXPECT_EQ(ask(1, op::MakeGroup{at + 4 * BLOCK, BLOCK}).status, Status::need_records);
        sharing().exports_present = 1000;
        own.end.put(end);
        for (u64 i = 4; i <= MAX_EXTENTS + 1; ++i) {
            const Status expected = i <= MAX_EXTENTS ? Status::ok : Status::limit;
            ASSERT_EQ(ask(1, op::ExtendGroup{at, at + i * BLOCK, BLOCK}).status, expected);
        }
        EXPECT_EQ(walk(), "");
        EXPECT_EQ(ask(1, op::Drop{at}).status, Status::ok);
        EXPECT_EQ(count_shares().extents, 0u);
        // As many at once as fit into an answer.
        for (u64 left = MAX_EXTENTS + 1; left != 0;) {
            const auto reply = ask(1, op::TakeReturned{});
            ASSERT_EQ(reply.status, Status::ok);
            ASSERT_EQ(reply.count, left < op::TakeReturned::MOST ? left : op::TakeReturned::MOST);
            left -= reply.count;
            EXPECT_EQ(count_shares().exports, left);
            EXPECT_EQ(walk(), "");
        }
        EXPECT_EQ(ask(1, op::TakeReturned{}).status, Status::miss);
    });
}

}  // namespace
}  // namespace aep
