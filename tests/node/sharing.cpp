// Purpose: the sharing operations against a model: random sequences of them, after each of which
//          every count is right; and that the walk finds what is planted.
// Who calls it: ctest. The operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "dsm-core/sharing/records.hpp"
#include "tests/node/sharing_tables.hpp"

namespace aep {
namespace {

using namespace test;

constexpr u32 CLIENTS = 4;
constexpr u32 EACH = 6;  // objects of one client

/// What should be: who has how many references to which object, and who owns it.
class Model {
  public:
    explicit Model(u64 seed) : random_(seed) {
        for (u32 c = 1; c <= CLIENTS; ++c) begin(c);
    }

    void step() {
        const u32 client = 1 + pick(CLIENTS);
        switch (pick(12)) {
            case 0:
            case 1:
            case 2:
                return send(client, 1 + pick(CLIENTS), any_object(client));
            case 3:
            case 4:
            case 5:
                return receive(client, pick(2) == 0 ? 0 : 1 + pick(CLIENTS));
            case 6:
                return reference(client, any_object(client));
            case 7:
            case 8:
            case 9:
                return drop(client, any_object(client));
            case 10:
                return collect(client);
            default:
                if (pick(30) == 0) die(client);
        }
    }

    void verify() {
        for (const auto& [address, object] : objects_) {
            u64 expected = 0;
            for (const auto& [client, count] : object.held) expected += count;
            for (const auto& box : boxes_)
                for (const Letter& letter : box.second) expected += letter.address == address;
            const auto reply = ask(1, op::Query{address, true});
            const bool known = object.exported || returned_.count(address) != 0;
            ASSERT_EQ(reply.status, known ? Status::ok : Status::miss);
            ASSERT_EQ(reply.references, expected);
        }
        u64 orphans = 0;
        for (const auto& [address, object] : objects_)
            orphans += object.exported && object.owner == 0;
        ASSERT_EQ(count_shares().orphans, orphans);
        ASSERT_EQ(walk(), "");
    }

    void end() {
        for (u32 c = 1; c <= CLIENTS; ++c) leave(c);
        ASSERT_EQ(walk(), "");
        ASSERT_EQ(count_shares().exports, 0u);
        ASSERT_EQ(count_shares().holders, 0u);
    }

  private:
    struct Object {
        u32 owner;
        bool exported = false;
        std::map<u32, u32> held;
    };
    struct Letter {
        u64 address;
        u64 sender;  // ShareId: one that died since is another
    };

    u32 pick(u32 n) { return static_cast<u32>(random_() % n); }

    /// A client with a chunk of its own and objects in it. Some of them span two chunks.
    void begin(u32 client) {
        ASSERT_EQ(perform(client, op::ClaimChunks{.count = 2}).status, Status::ok);
        const u32 first = first_chunk_of(client);
        for (u32 i = 0; i < EACH; ++i) {
            const u64 at = chunk_address(ChunkIndex{first}) + (i == 0 ? CHUNK_SIZE / 2 : i * 64);
            objects_[at] = {.owner = client, .held = {}};
            bytes_[at] = i == 0 ? CHUNK_SIZE : 64;
        }
        ++client_at(client).generation;
        ASSERT_EQ(ask(client, op::Open{}).status, Status::ok);
        ids_[client] = id_of(client, client_at(client).generation.load());
        boxes_[client];
    }

    u64 any_object(u32 client) {
        for (;;) {  // its own twice as often
            auto it = objects_.begin();
            std::advance(it, pick(static_cast<u32>(objects_.size())));
            if (it->second.owner == client || pick(2) == 0) return it->first;
        }
    }

    /// Whether the client may pass it on; what was never sent is exported then.
    bool may(u32 client, u64 address) {
        const Object& o = objects_[address];
        if (returned_.count(address) != 0) return false;
        return o.exported ? o.held.count(client) != 0 : o.owner == client;
    }
    void export_it(u64 address) {
        Object& o = objects_[address];
        if (!o.exported) o.held[o.owner] = 1;
        o.exported = true;
    }
    void gone_if_last(u64 address) {
        Object& o = objects_[address];
        if (!o.held.empty()) return;
        for (const auto& box : boxes_) {
            for (const Letter& letter : box.second)
                if (letter.address == address) return;
        }
        o.exported = false;
    }

    void send(u32 client, u32 to, u64 address) {
        const bool drop = pick(3) == 0;
        const auto reply = ask(
            client,
            op::Send{.object = address, .to = ids_[to], .bytes = bytes_[address], .drop = drop});
        if (boxes_[to].size() == MAILBOX_MESSAGES) {
            ASSERT_EQ(reply.status, Status::full);
        } else if (!may(client, address)) {
            ASSERT_EQ(reply.status, Status::not_held);
        } else {
            ASSERT_EQ(reply.status, Status::ok);
            export_it(address);
            boxes_[to].push_back({address, ids_[client].bits});
            auto& held = objects_[address].held;
            if (drop && --held[client] == 0) held.erase(client);
        }
    }

    void receive(u32 client, u32 from) {
        const auto reply = ask(client, op::Receive{from == 0 ? ShareId{} : ids_[from]});
        auto& box = boxes_[client];
        auto it = box.begin();
        while (it != box.end() && from != 0 && it->sender != ids_[from].bits) ++it;
        if (it == box.end()) {
            ASSERT_EQ(reply.status, Status::miss);
            return;
        }
        ASSERT_EQ(reply.status, Status::ok);
        ASSERT_EQ(reply.object, it->address);
        ASSERT_EQ(reply.bytes, bytes_[it->address]);
        ASSERT_EQ(reply.sender.bits, it->sender);
        ++objects_[it->address].held[client];
        box.erase(it);
    }

    void reference(u32 client, u64 address) {
        const auto reply = ask(client, op::Reference{address, bytes_[address]});
        ASSERT_EQ(reply.status, may(client, address) ? Status::ok : Status::not_held);
        if (reply.status != Status::ok) return;
        const bool fresh = !objects_[address].exported;
        export_it(address);
        ++objects_[address].held[client];
        ASSERT_TRUE(!fresh || objects_[address].held[client] == 2);
    }

    void drop(u32 client, u64 address) {
        Object& o = objects_[address];
        const auto reply = ask(client, op::Drop{address});
        if (returned_.count(address) != 0) {
            ASSERT_EQ(reply.status, Status::not_held);
        } else if (!o.exported) {
            ASSERT_EQ(reply.status, Status::miss);
        } else if (o.held.count(client) == 0) {
            ASSERT_EQ(reply.status, Status::not_held);
        } else {
            ASSERT_EQ(reply.status, Status::ok);
            if (--o.held[client] == 0) o.held.erase(client);
            gone_if_last(address);
            ASSERT_EQ(reply.memory == Memory::yours_to_free, !o.exported && o.owner == client);
            if (!o.exported && o.owner != client && o.owner != 0) returned_.insert(address);
            if (!o.exported && o.owner == 0) objects_.erase(address);
        }
    }

    void collect(u32 client) {
        for (;;) {
            const auto reply = ask(client, op::TakeReturned{});
            if (reply.status != Status::ok) break;
            ASSERT_GT(reply.count, 0u);
            for (u32 i = 0; i < reply.count; ++i) {
                ASSERT_EQ(returned_.erase(reply.objects[i]), 1u);
                ASSERT_EQ(objects_[reply.objects[i]].owner, client);
            }
        }
        for (const u64 address : returned_) ASSERT_NE(objects_[address].owner, client);
    }

    void leave(u32 client) {
        while (ask(client, op::Leave{}).status == Status::ok) {
        }
    }

    void die(u32 client) {
        leave(client);
        std::vector<u64> touched;
        for (const Letter& letter : boxes_[client]) touched.push_back(letter.address);
        boxes_[client].clear();
        for (auto& [address, o] : objects_)
            if (o.held.erase(client) != 0) touched.push_back(address);
        for (const u64 address : touched) gone_if_last(address);
        for (const u64 address : touched) {
            const Object& o = objects_[address];
            if (!o.exported && o.owner != client && o.owner != 0) returned_.insert(address);
        }
        std::set<u32> chunks;
        for (auto it = objects_.begin(); it != objects_.end();) {
            if (it->second.owner == client) {
                returned_.erase(it->first);
                it->second.owner = 0;
            }
            const bool nobodys = it->second.owner == 0 && !it->second.exported;
            it = nobodys ? objects_.erase(it) : std::next(it);
        }
        give_up_chunks(client);
        ASSERT_EQ(walk(), "");
        begin(client);
    }

    std::mt19937_64 random_;
    std::map<u64, Object> objects_;
    std::map<u64, u64> bytes_;
    std::map<u32, ShareId> ids_;
    std::map<u32, std::vector<Letter>> boxes_;
    std::set<u64> returned_;  // with their owners, who have not taken them yet
};

TEST(Sharing, RandomOperationsKeepEveryCount) {
    for (u64 seed = 1; seed <= 8; ++seed) {
        with_tables([seed](Host&) {
            Model model(seed);
            for (int i = 0; i < 3000 && !testing::Test::HasFatalFailure(); ++i) {
                model.step();
                if (i % 10 == 0) model.verify();
            }
            model.end();
        });
    }
}

TEST(Sharing, TheWalkFindsWhatIsPlanted) {
    const auto finds = [](const char* words, void (*damage)()) {
        with_tables([&](Host&) {
            Model model(7);
            for (int i = 0; i < 500; ++i) model.step();
            ASSERT_EQ(walk(), "");
            damage();
            EXPECT_NE(walk().find(words), std::string::npos) << words << ": " << walk();
        });
    };
    finds(
        "the count of exports is wrong", [] { ++share_client(0).exports; });
    finds(
        "the count of holders is wrong", [] { --share_client(1).objects_held; });
    finds(
        "the count of exports that wait is wrong", [] { ++sharing().deferred.count; });
    finds(
        "the count of exports that visit is wrong", [] { ++sharing().visiting.count; });
    finds(
        "its count of references is wrong",
        [] {
            for (u32 i = 1; i <= sharing().exports_used; ++i) ++export_at(i).references;
        });
    finds(
        "the count of its exports is wrong", [] { ++chunk_exports(0); });
    finds(
        "lists of owners have lost an export",
        [] { share_client(1).first_export = share_client(2).first_export = NO_RECORD; });
    finds(
        "it is looked for by another address", [] { ++holder_at(any_holder(1)).address; });
    finds(
        "the count of its objects is wrong", [] { ++share_client(1).objects_held; });
    finds(
        "another number of KiB", [] { ++share_client(1).inbox.kib; });
    finds(
        "on no client's list", [] { inbox_at(FIRST_FURTHER + 5).client = 1; });
    finds(
        "nobody's, but open", [] { inbox_at(FIRST_FURTHER + 5).open = 1; });
    finds(
        "it has come back, or is on a list of such",
        [] {
            for (u32 i = 1; i <= sharing().exports_used; ++i) {
                if (export_at(i).state != static_cast<u32>(ExportState::live)) continue;
                export_at(i).state = static_cast<u32>(ExportState::returned);
                return;
            }
        });
    finds(
        "it has come back to another client",
        [] { share_client(1).taken_back = share_client(2).first_export; });
    finds(
        "it sends as another than it is", [] { ++share_client(1).sends_as; });
    finds(
        "who follows its peers is told otherwise of it", [] { ++attendance_of(2).stays; });
    finds("quiet moment", [] { slot_at(1).turns.fetch_add(1); });
}

/// Holders and branches that are nobody's.
u32 free_holder_records() {
    u32 free = 0;
    const auto each = [&](u32 i) {
        for (; i != NO_RECORD; i = holder_at(i).next) ++free;
    };
    for (u32 c = 0; c <= context().max_clients; ++c) {
        const Supply& own = share_client(c).holder_records;
        each(own.free);
        free += own.end - own.next;
    }
    for (u32 i = sharing().holder_lists; i != NO_RECORD; i = static_cast<u32>(holder_at(i).address))
        each(i);
    return free;
}

/// As many as need branches of branches: each is found, and when they are gone no record is left.
TEST(Sharing, AClientHoldsManyObjects) {
    with_tables([](Host&) {
        constexpr u32 OBJECTS = 4000;
        perform(Caller{1, 1}, op::AddRecords{.exports = 5000, .holders = 15000});
        perform(1, op::ClaimChunks{.count = 1});
        client_at(1).generation = client_at(2).generation = 7;
        for (u32 client : {1u, 2u}) ask(client, op::Open{});
        const u64 at = chunk_address(ChunkIndex{first_chunk_of(1)});
        std::vector<u64> objects(OBJECTS);
        for (u32 i = 0; i < OBJECTS; ++i) {
            objects[i] = at + i * 64;
            ASSERT_EQ(ask(1, op::Send{objects[i], id_of(2), 64}).status, Status::ok);
            ASSERT_EQ(ask(2, op::Receive{}).object, objects[i]);
            if (i % 512 == 0) ASSERT_EQ(walk(), "");
        }
        std::shuffle(objects.begin(), objects.end(), std::mt19937_64(1));
        for (u32 i = 0; i < OBJECTS; ++i) {
            ASSERT_EQ(ask(2, op::Query{objects[i]}).own, 1u);
            ASSERT_EQ(ask(2, op::Drop{objects[i]}).status, Status::ok);
            ASSERT_EQ(ask(2, op::Drop{objects[i]}).status, Status::not_held);
            if (i % 512 == 0) ASSERT_EQ(walk(), "");
            if (i % 2 == 0) ASSERT_EQ(ask(1, op::Drop{objects[i]}).memory, Memory::yours_to_free);
        }
        EXPECT_EQ(share_client(2).first_reference, NO_RECORD);
        while (ask(1, op::Leave{}).status == Status::ok) continue;  // with the other half
        EXPECT_EQ(walk(), "");
        EXPECT_EQ(count_shares().holders, 0u);
        EXPECT_EQ(share_client(1).first_reference, NO_RECORD);
        EXPECT_EQ(free_holder_records(), sharing().holders_used);
        EXPECT_GT(sharing().holders_used, 2 * OBJECTS + OBJECTS / 4);  // there were branches
    });
}

TEST(Sharing, TablesThatAreFullAreSaid) {
    with_tables([](Host&) {
        sharing().exports_present = 3;
        sharing().holders_present = 4;  // one is kept for a branch
        Model model(1);
        const u64 at = chunk_address(ChunkIndex{first_chunk_of(1)});
        EXPECT_EQ(ask(1, op::Reference{at + 64, 64}).status, Status::ok);
        EXPECT_EQ(ask(1, op::Reference{at + 128, 64}).status, Status::ok);
        EXPECT_EQ(ask(1, op::Reference{at + 192, 64}).status, Status::need_records);
        EXPECT_EQ(walk(), "");
        EXPECT_EQ(ask(1, op::AddRecords{u64{MAX_EXPORTS} + 1, 0}).status, Status::limit);
        EXPECT_EQ(ask(1, op::AddRecords{5, 5}).status, Status::ok);
        EXPECT_EQ(ask(1, op::Reference{at + 192, 64}).status, Status::ok);
        model.end();
    });
}

/// Whoever sleeps until there is room sleeps on that word.
TEST(Sharing, WhoMakesRoomInAFullMailboxSaysSo) {
    with_tables([](Host&) {
        Model model(1);
        const u64 at = chunk_address(ChunkIndex{first_chunk_of(1)}) + 64;
        const auto departures = [] { return words_of(2, Sleep::departures).sequence.load(); };
        u32 before = departures();
        for (u32 i = 0; i < MAILBOX_MESSAGES; ++i)
            ASSERT_EQ(ask(1, op::Send{at, id_of(2), 64}).status, Status::ok);
        EXPECT_EQ(ask(1, op::Send{at, id_of(2), 64}).status, Status::full);
        EXPECT_EQ(departures(), before);
        EXPECT_EQ(ask(2, op::Receive{}).status, Status::ok);
        EXPECT_NE(departures(), before);
        before = departures();
        EXPECT_EQ(ask(2, op::Receive{}).status, Status::ok);
        EXPECT_EQ(departures(), before) << "nobody waits for room where there is some";
        model.end();
    });
}

TEST(Sharing, WhoIsGoneIsSentNothing) {
    with_tables([](Host&) {
        Model model(1);
        const u64 at = chunk_address(ChunkIndex{first_chunk_of(1)}) + 64;
        const ShareId receiver = id_of(2);
        while (ask(2, op::Leave{}).status == Status::ok) continue;
        EXPECT_EQ(ask(1, op::Send{at, receiver, 64}).status, Status::gone);
        EXPECT_EQ(ask(1, op::Receive{receiver}).status, Status::gone) << "nothing of its will come";
        EXPECT_EQ(ask(2, op::Send{at, id_of(1), 64}).status, Status::gone);
        EXPECT_EQ(find_export(at), NO_RECORD);
        model.end();
    });
}

TEST(Sharing, NumbersBeyondTheRecordsInUseAreNone) {
    with_tables([](Host&) {
        Model model(1);
        ASSERT_EQ(
            ask(1, op::Reference{chunk_address(ChunkIndex{first_chunk_of(1)}) + 64, 64}).status,
            Status::ok);
        const u32 used = sharing().exports_used;
        EXPECT_TRUE(is_record(used));
        for (const u32 none : {u32{NO_RECORD}, used + 1, u32{MAX_EXPORTS}, ~0u})
            EXPECT_FALSE(is_record(none)) << none;
        model.end();
    });
}

/// It waits in the mailbox until there is a record for who gets it.
TEST(Sharing, AMessageWaitsForARecord) {
    with_tables([](Host&) {
        Model model(1);
        const u64 at = chunk_address(ChunkIndex{first_chunk_of(1)}) + 64;
        ASSERT_EQ(ask(1, op::Send{at, id_of(2), 64}).status, Status::ok);
        sharing().holders_present = sharing().holders_used + 1;
        EXPECT_EQ(ask(2, op::Receive{}).status, Status::need_records);
        EXPECT_EQ(walk(), "");
        EXPECT_EQ(
            ask(2, op::AddRecords{.exports = 0, .holders = sharing().holders_used + 10}).status,
            Status::ok);
        const auto got = ask(2, op::Receive{});
        EXPECT_EQ(got.status, Status::ok);
        EXPECT_EQ(got.object, at);
        model.end();
    });
}

TEST(Sharing, ClientsAndAddressesThatAreNoneAreRefused) {
    with_tables([](Host&) {
        Model model(1);
        EXPECT_EQ(ask(0, op::Open{}).status, Status::gone);
        EXPECT_EQ(ask(context().max_clients + 1, op::Open{}).status, Status::gone);
        const u64 self = id_of(1, client_at(1).generation.load()).bits;
        for (const u64 address : {u64{0}, u64{HEAP_BASE - 1}, u64{HEAP_BASE + HEAP_WINDOW}, ~u64{0},
                                  u64{HEAP_BASE + HEAP_WINDOW - 1}})
            EXPECT_EQ(ask(1, op::Send{address, {self}, 64}).status, Status::not_held);
        const u64 at = chunk_address(ChunkIndex{first_chunk_of(1)});
        for (const u64 bytes : {u64{0}, u64{HEAP_WINDOW}, ~u64{0}, u64{CHUNK_SIZE * 3}})
            EXPECT_EQ(ask(1, op::Send{at, {self}, bytes}).status, Status::not_held);
        EXPECT_EQ(walk(), "");
    });
}

}  // namespace
}  // namespace aep
