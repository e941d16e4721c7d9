// Purpose: single edges of the sharing operations: who takes part anew, which chunks objects lie in, messages taken out of turn,
//          references to spare.
// Who calls it: ctest. The operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include <algorithm>
#include <utility>
#include <vector>

#include "dsm-core/sharing/undo.hpp"
#include "tests/node/sharing_tables.hpp"

namespace aep {
namespace {

using namespace test;

TEST(Sharing, WhoWatchesDoesSoUntilItsEnd) {
    with_tables([](Host&) {
        EXPECT_EQ(ask(1, op::Watch{}).status, Status::gone);
        EXPECT_EQ(ask(1, op::Open{}).status, Status::ok);
        EXPECT_EQ(share_client(1).inbox.watched, 0U);
        EXPECT_EQ(ask(1, op::Watch{}).status, Status::ok);
        EXPECT_EQ(ask(1, op::Open{}).status, Status::ok);  // under another name, say
        EXPECT_EQ(share_client(1).inbox.watched, Inbox::MESSAGES_WATCHED);
        while (ask(1, op::Leave{}).status == Status::ok) continue;
        EXPECT_EQ(ask(1, op::Open{}).status, Status::ok);
        EXPECT_EQ(share_client(1).inbox.watched, 0U);
    });
}

/// Who has much leaves in steps, and in few of them.
TEST(Sharing, WhoHasMuchLeavesInSteps) {
    with_tables([](Host&) {
        constexpr u32 OBJECTS = 10'000;
        ask(1, op::AddRecords{.exports = OBJECTS + 200, .holders = 2 * OBJECTS});
        ASSERT_EQ(perform(1, op::ClaimChunks{.count = 1}).status, Status::ok);
        ++client_at(1).generation;
        ASSERT_EQ(ask(1, op::Open{}).status, Status::ok);
        const u64 at = chunk_address(ChunkIndex{first_chunk_of(1)});
        for (u32 i = 0; i < OBJECTS; ++i)
            ASSERT_EQ(ask(1, op::Reference{at + i * 64, 64}).status, Status::ok);
        u32 steps = 0;
        while (ask(1, op::Leave{}).status == Status::ok) ++steps;
        EXPECT_GT(steps, 1u);
        EXPECT_LT(steps, 10u);
        EXPECT_FALSE(has_shares(share_client(1)));
        EXPECT_EQ(walk(), "");
    });
}

/// A predecessor may have died waiting; who changes its name does not.
TEST(Sharing, WhoWaitedBeforeIsNobodyWhoWaits) {
    with_tables([](Host&) {
        share_client(1).inbox.arrival_waiters.store(2);
        ++client_at(1).generation;
        EXPECT_EQ(ask(1, op::Open{}).status, Status::ok);
        EXPECT_EQ(share_client(1).inbox.arrival_waiters.load(), 0U);
        share_client(1).inbox.arrival_waiters.store(2);
        EXPECT_EQ(ask(1, op::Open{}).status, Status::ok);
        EXPECT_EQ(share_client(1).inbox.arrival_waiters.load(), 2U);
        // Who takes part no more and again is the same, and its threads may be waiting.
        while (ask(1, op::CloseInbox{1}).status == Status::ok) continue;
        share_client(1).inbox.arrival_waiters.store(2);
        EXPECT_EQ(ask(1, op::Open{}).status, Status::ok);
        EXPECT_EQ(share_client(1).inbox.arrival_waiters.load(), 2U);
    });
}

/// Clients 1 to `count` take part; where the first one's chunk begins.
u64 take_part(u32 count) {
    for (u32 client = 1; client <= count; ++client) {
        client_at(client).generation = 1;
        EXPECT_EQ(ask(client, op::Open{}).status, Status::ok);
    }
    return chunk_address(perform(1, op::ClaimChunks{.count = 1}).first);
}

TEST(Sharing, ANameIsOneClients) {
    with_tables([](Host&) {
        take_part(2);
        const op::Open named{.name = {"one"}};
        EXPECT_EQ(ask(1, named).status, Status::ok);
        EXPECT_EQ(ask(1, named).status, Status::ok);
        EXPECT_EQ(ask(2, named).status, Status::exists);
        while (ask(1, op::Leave{}).status == Status::ok) continue;
        EXPECT_EQ(ask(2, named).status, Status::ok);
    });
}

TEST(Sharing, EachMessageIsNewsForItsReceiver) {
    with_tables([](Host&) {
        const u64 at = take_part(2);
        for (u32 i = 0; i < 3; ++i) {
            const u32 before = share_client(2).inbox.arrivals.load();
            EXPECT_EQ(ask(1, op::Send{at, id_of(2), 64}).status, Status::ok);
            EXPECT_NE(share_client(2).inbox.arrivals.load(), before);
        }
    });
}

/// Who sleeps for room in its mailbox, and who sleeps for a message of its.
TEST(Sharing, WhoLeavesWakesAllThatWaitForIt) {
    with_tables([](Host&) {
        take_part(2);
        const u32 room = share_client(2).inbox.departures.load();
        const u32 news = share_client(1).inbox.arrivals.load();
        share_client(1).inbox.arrival_waiters.store(1);
        while (ask(2, op::Leave{}).status == Status::ok) continue;
        EXPECT_NE(share_client(2).inbox.departures.load(), room);
        EXPECT_NE(share_client(1).inbox.arrivals.load(), news);
        share_client(1).inbox.arrival_waiters.store(0);
    });
}

/// Records that it had at hand, of what it has dropped.
TEST(Sharing, RecordsOfWhoLeavesAreOthers) {
    with_tables([](Host&) {
        take_part(2);
        ASSERT_EQ(perform(2, op::ClaimChunks{.count = 1}).status, Status::ok);
        constexpr u32 MOST = 700;  // of 1000
        for (const u32 client : {1u, 2u}) {
            const u64 at = chunk_address(ChunkIndex{first_chunk_of(client)});
            for (u32 i = 0; i < MOST; ++i)
                ASSERT_EQ(ask(client, op::Reference{at + i * 64, 64}).status, Status::ok) << i;
            for (u32 i = 0; i < MOST; ++i)
                ASSERT_EQ(ask(client, op::Drop{at + i * 64}).status, Status::ok) << i;
            while (ask(client, op::Leave{}).status == Status::ok) continue;
        }
        EXPECT_EQ(walk(), "");
    });
}

/// What lies behind the table of clients is no client, whatever it says.
TEST(Sharing, NumbersBeyondTheClientsAreNone) {
    with_tables([](Host&) {
        take_part(1);
        const u32 beyond = context().max_clients + 1;
        share_client(beyond).inbox.open.put(1);
        share_client(beyond).inbox.generation.put(1);
        EXPECT_EQ(ask(1, op::Receive{.from = id_of(beyond, 1)}).status, Status::gone);
        share_client(beyond).inbox.open.put(0);
        share_client(beyond).inbox.generation.put(0);
    });
}

/// Whoever waits for that is told, and there is one place more in use than messages otherwise.
TEST(Sharing, WhatIsTakenOutOfTurnFromAFullMailboxMakesRoom) {
    with_tables([](Host&) {
        const u64 at = take_part(3);
        for (u32 i = 0; i < MAILBOX_MESSAGES - 1; ++i)
            ASSERT_EQ(ask(1, op::Send{at, id_of(2), 64}).status, Status::ok);
        ASSERT_EQ(ask(1, op::Send{at, id_of(3), 64}).status, Status::ok);
        ASSERT_EQ(ask(3, op::Receive{}).status, Status::ok);
        ASSERT_EQ(ask(3, op::Send{.object = at, .to = id_of(2)}).status, Status::ok);
        EXPECT_EQ(share_client(2).inbox.messages, MAILBOX_MESSAGES);
        const u32 before = share_client(2).inbox.departures.load();
        EXPECT_EQ(ask(2, op::Receive{.from = id_of(3)}).status, Status::ok);
        EXPECT_NE(share_client(2).inbox.departures.load(), before);
        EXPECT_EQ(share_client(2).inbox.messages, MAILBOX_MESSAGES - 1);
        EXPECT_EQ(walk(), "");
    });
}

/// What fills a chunk is the only object there, whichever was first.
TEST(Sharing, ObjectsDoNotLieInOneAnother) {
    with_tables([](Host&) {
        ASSERT_EQ(perform(1, op::ClaimChunks{.count = 3}).status, Status::ok);
        ++client_at(1).generation;
        ASSERT_EQ(ask(1, op::Open{}).status, Status::ok);
        const u64 at = chunk_address(ChunkIndex{first_chunk_of(1)});
        ASSERT_EQ(ask(1, op::Reference{at + CHUNK_SIZE + 64, 64}).status, Status::ok);
        EXPECT_EQ(ask(1, op::Reference{at + 64, 2 * CHUNK_SIZE}).status, Status::not_held);
        EXPECT_EQ(walk(), "");
        for (int i = 0; i < 2; ++i)
            ASSERT_EQ(ask(1, op::Drop{at + CHUNK_SIZE + 64}).status, Status::ok);
        EXPECT_EQ(ask(1, op::Reference{at + 64, 2 * CHUNK_SIZE}).status, Status::ok);
        EXPECT_EQ(walk(), "");
    });
}

/// Those that a large object of a dead client's filled go with it, although its first and last chunk stay.
TEST(Sharing, InnerChunksGoWithTheObjectThatFilledThem) {
    with_tables([](Host&) {
        ASSERT_EQ(perform(1, op::ClaimChunks{.count = 4}).status, Status::ok);
        const u32 first = first_chunk_of(1);
        const u64 at = chunk_address(ChunkIndex{first});
        const u64 large = at + CHUNK_SIZE / 2, below = at + 64, above = at + 4 * CHUNK_SIZE - 64;
        for (const u32 client : {1u, 2u}) {
            ++client_at(client).generation;
            ASSERT_EQ(ask(client, op::Open{}).status, Status::ok);
        }
        for (const auto& [object, bytes] :
             {std::pair{large, 3 * CHUNK_SIZE}, {below, usize{64}}, {above, usize{64}}}) {
            ASSERT_EQ(ask(1, op::Send{object, id_of(2), bytes}).status, Status::ok);
            ASSERT_EQ(ask(2, op::Receive{}).status, Status::ok);
        }
        while (ask(1, op::Leave{}).status == Status::ok) continue;
        give_up_chunks(1);
        const auto owners = [&] {
            std::vector<u32> all;
            for (u32 c = first; c < first + 4; ++c) all.push_back(chunk_owner(c));
            return all;
        };
        const u32 kept = OWNER_KEPT, cached = OWNER_CACHED;
        EXPECT_EQ(owners(), (std::vector{kept, kept, kept, kept}));
        EXPECT_EQ(ask(2, op::Drop{large}).status, Status::ok);
        EXPECT_EQ(owners(), (std::vector{kept, cached, cached, kept}));
        EXPECT_EQ(ask(2, op::Drop{above}).status, Status::ok);
        EXPECT_EQ(owners(), (std::vector{kept, cached, cached, cached}));
        EXPECT_EQ(ask(2, op::Drop{below}).status, Status::ok);
        EXPECT_EQ(owners(), (std::vector{cached, cached, cached, cached}));
        EXPECT_EQ(walk(), "");
    });
}

/// An operation that takes the last export of a dead client's chunks away, and may be undone yet.
TEST(Sharing, ChunksStayUntilTheirLastExportHasGoneForGood) {
    with_tables([](Host&) {
        ASSERT_EQ(perform(1, op::ClaimChunks{.count = 4}).status, Status::ok);
        const u32 first = first_chunk_of(1);
        const u64 object = chunk_address(ChunkIndex{first}) + CHUNK_SIZE / 2;
        for (const u32 client : {1u, 2u}) {
            ++client_at(client).generation;
            ASSERT_EQ(ask(client, op::Open{}).status, Status::ok);
        }
        const u64 receiver = id_of(2).bits;
        ASSERT_EQ(ask(1, op::Send{object, {receiver}, 3 * CHUNK_SIZE}).status, Status::ok);
        ASSERT_EQ(ask(2, op::Receive{}).status, Status::ok);
        while (ask(1, op::Leave{}).status == Status::ok) continue;
        const auto all_are = [&](u32 owner) {
            for (u32 c = first; c < first + 4; ++c)
                if (chunk_owner(c).load() != owner) return false;
            return true;
        };
        const auto begin_drop = [&] {
            log_in(2);
            undo_log().note_lock(0, share_client(0).lock.taken());
            share_client(0).lock.taken().lock(2);
            --chunk_exports(first);
            fill_logged(&chunk_exports(first + 1), 2, 1, 0);
            --chunk_exports(first + 3);
        };
        const auto present = [](uptr, u64) { return true; };
        begin_drop();  // before the owner's death is found
        for (u32 c = first; c < first + 4; ++c) EXPECT_FALSE(exports_gone(c));
        EXPECT_EQ(undo_operation(2, present), Undo::done);
        give_up_chunks(1);
        begin_drop();  // and after
        give_forgotten_chunks();
        EXPECT_TRUE(all_are(OWNER_KEPT));
        EXPECT_EQ(undo_operation(2, present), Undo::done);
        EXPECT_EQ(walk(), "");
        EXPECT_EQ(ask(2, op::Drop{object}).status, Status::ok);
        EXPECT_TRUE(all_are(OWNER_CACHED));
        EXPECT_EQ(walk(), "");
    });
}

/// Clients 1 to 3 take part; an object of client `client`'s own.
u64 opened_with_memory(u32 client) {
    perform(client, op::ClaimChunks{.count = 1});
    ++client_at(client).generation;
    EXPECT_EQ(ask(client, op::Open{}).status, Status::ok);
    return chunk_address(ChunkIndex{first_chunk_of(client)}) + 64;
}

/// Messages that are taken before older ones leave those where they are; their places are used again when they are needed.
TEST(Sharing, MessagesAreTakenOutOfTurn) {
    with_tables([](Host&) {
        const u64 one = opened_with_memory(1), three = opened_with_memory(3);
        opened_with_memory(2);
        const auto send = [](u32 client, u64 object) {
            return ask(client, op::Send{object, id_of(2), 64}).status;
        };
        const auto receive = [](u32 from) {
            return ask(2, op::Receive{.from = from == 0 ? ShareId{} : id_of(from)}).object;
        };
        ASSERT_EQ(send(1, one), Status::ok);
        for (u32 i = 0; i < 300; ++i) {
            ASSERT_EQ(send(3, three), Status::ok);
            ASSERT_EQ(receive(3), three);
            ASSERT_EQ(receive(3), 0u) << "taken twice";
        }
        EXPECT_EQ(walk(), "");
        ASSERT_EQ(receive(1), one);
        ASSERT_EQ(receive(0), 0u);
        // With gaps among them as many have room as without.
        ASSERT_EQ(send(1, one), Status::ok);
        for (u32 i = 0; i < 200; ++i)
            ASSERT_EQ(send(i % 2 == 0 ? 3 : 1, i % 2 == 0 ? three : one), Status::ok);
        for (u32 i = 0; i < 100; ++i) ASSERT_EQ(receive(3), three);
        EXPECT_EQ(walk(), "");
        for (u32 i = 101; i < MAILBOX_MESSAGES; ++i) ASSERT_EQ(send(3, three), Status::ok) << i;
        EXPECT_EQ(send(3, three), Status::full);
        EXPECT_EQ(walk(), "");
        // From a full one a message that is taken out of turn makes room, too.
        ASSERT_EQ(receive(3), three);
        EXPECT_EQ(send(3, three), Status::ok);
        EXPECT_EQ(send(3, three), Status::full);
        u32 from_one = 0, from_three = 0;
        for (u64 object; (object = receive(0)) != 0;) {
            // The oldest ones are client 1's.
            if (object == one) EXPECT_EQ(from_three, 0u);
            ++(object == one ? from_one : from_three);
        }
        EXPECT_EQ(from_one, 101u);
        EXPECT_EQ(from_three, MAILBOX_MESSAGES - 101);
        EXPECT_EQ(walk(), "");
    });
}

/// However often an object goes to and fro the export counts a few references more than there are, and says how many there are.
TEST(Sharing, ReferencesToSpareAreGivenBack) {
    with_tables([](Host&) {
        const u64 at = opened_with_memory(1);
        opened_with_memory(2);
        const auto pass = [&] {
            ASSERT_EQ(ask(1, op::Send{at, id_of(2), 64}).status, Status::ok);
            ASSERT_EQ(ask(2, op::Receive{}).status, Status::ok);
        };
        pass();  // which client 2 keeps
        const u32 object = holder_at(any_holder(1)).object;
        u32 most = 0;
        for (u32 i = 0; i < 5'000; ++i) {
            pass();
            ASSERT_EQ(ask(2, op::Drop{at}).status, Status::ok);
            most = std::max(most, export_at(object).references.load());
            if (i % 50 == 0) {
                ASSERT_EQ(ask(1, op::Query{at, true}).references, 2u);
                ASSERT_EQ(walk(), "");
            }
        }
        EXPECT_LE(most, 6 * SPARE);
        EXPECT_EQ(ask(1, op::Drop{at}).memory, Memory::kept);
        EXPECT_EQ(ask(2, op::Query{at, true}).references, 1u);
        EXPECT_EQ(ask(2, op::Drop{at}).status, Status::ok);
        EXPECT_EQ(ask(1, op::TakeReturned{}).objects[0], at);
        EXPECT_EQ(count_shares().exports, 0u);
        EXPECT_EQ(walk(), "");
    });
}

/// The log lies in memory that clients write.
TEST(Sharing, AFillOfTheLogReachesNoFurtherThanTheCounts) {
    with_tables([](Host&) {
        const u64 last = reinterpret_cast<u64>(&chunk_exports(context().chunk_count - 1));
        const auto may_be = [](u64 address, u32 count) {
            return may_be_logged({address | u64{UndoEntry::FILL} << 56, u64{count} << 32});
        };
        EXPECT_TRUE(may_be(last, 1));
        EXPECT_FALSE(may_be(last, 2));
        EXPECT_FALSE(may_be(last, ~0u));
        EXPECT_FALSE(may_be(last + sizeof(u32), 1));
    });
}

TEST(Sharing, WordsOfTheLogLieInTheTables) {
    with_tables([](Host&) {
        const auto may_be = [](u64 address, u64 bytes) {
            return may_be_logged({address | bytes << 56, 0});
        };
        const u64 begin = control_base() + SHARE_OFFSET;
        const u64 end = begin + share_layout().present_bytes;
        const u64 records = control_base() + RECORDS_OFFSET;
        const u64 records_end = records + share_layout().record_bytes;
        for (const u64 bytes : {u64{1}, u64{2}, u64{4}, u64{8}}) {
            EXPECT_TRUE(may_be(records, bytes)) << bytes;
            EXPECT_TRUE(may_be(end - bytes, bytes)) << bytes;
            EXPECT_TRUE(may_be(records_end - bytes, bytes)) << bytes;
            for (const u64 beyond : {begin - bytes, end, records_end, u64{0}})
                EXPECT_FALSE(may_be(beyond, bytes)) << beyond - begin << ", " << bytes;
        }
        EXPECT_FALSE(may_be(records + 4, 8));
        EXPECT_FALSE(may_be(records, 3));
        EXPECT_FALSE(may_be(records, 16));
    });
}

TEST(Sharing, WordsOfEverySizeAreWrittenBack) {
    for (const u64 bytes : {u64{1}, u64{2}, u64{4}, u64{8}}) {
        u64 word = ~u64{0};
        UndoEntry{reinterpret_cast<u64>(&word) | bytes << 56, 0x1122334455667788}.restore();
        const u64 all = bytes == 8 ? ~u64{0} : (u64{1} << 8 * bytes) - 1;
        EXPECT_EQ(word, (~u64{0} & ~all) | (0x1122334455667788 & all)) << bytes;
    }
}

/// Nobody completes or undoes what it was in.
TEST(Sharing, WhatADeadOneHoldsInAPoisonedContextIsNotWaitedFor) {
    with_tables([](Host&) {
        ++client_at(1).generation;
        ASSERT_EQ(ask(1, op::Open{}).status, Status::ok);
        sharing().names.lock(7);
        context().state = static_cast<u32>(ContextState::poisoned);
        EXPECT_EQ(ask(1, op::LookAtPeer{2}).status, Status::poisoned);
        EXPECT_EQ(sharing().names.holder(), 7u);
    });
}

/// Whoever waits for one of two has none that comes behind it: else two could wait for each other.
TEST(Sharing, ClientsAreLockedInTheOrderOfTheirNumbers) {
    with_tables([](Host&) {
        share_client(2).lock.taken().lock(7);
        context().state = static_cast<u32>(ContextState::poisoned);
        for (const auto& [a, b] : {std::pair{2u, 3u}, std::pair{3u, 2u}}) {
            Turn turn(Caller{3, 3});
            EXPECT_FALSE(turn.clients(a, b));
            EXPECT_FALSE(share_client(3).lock.is_held()) << a << ", " << b;
        }
    });
}

/// Clients 1 and 2 take part; memory of the first one.
u64 begin() {
    for (const u32 client : {1u, 2u}) {
        perform(client, op::ClaimChunks{.count = 1});
        ++client_at(client).generation;
        EXPECT_EQ(ask(client, op::Open{}).status, Status::ok);
    }
    return chunk_address(ChunkIndex{first_chunk_of(1)});
}

/// An operation between nodes has it in its hands: the object goes with that, not with its last reference here.
TEST(Sharing, WhatIsPinnedIsNotFreed) {
    with_tables([](Host&) {
        const u64 at = begin();
        ASSERT_EQ(ask(1, op::Reference{at, 64}).status, Status::ok);
        export_at(find_export(at)).pins = 1;
        EXPECT_EQ(ask(1, op::Drop{at}).status, Status::ok);
        const auto last = ask(1, op::Drop{at});
        EXPECT_EQ(last.status, Status::ok);
        EXPECT_EQ(last.memory, Memory::kept);
        EXPECT_NE(find_export(at), NO_RECORD);
        EXPECT_EQ(count_shares().exports, 1u);
    });
}

/// Nor given back to its owner, by whoever has the last reference.
TEST(Sharing, WhatIsPinnedIsNotGivenBack) {
    with_tables([](Host&) {
        const u64 at = begin();
        ASSERT_EQ(ask(1, op::Send{at, id_of(2), 64}).status, Status::ok);
        ASSERT_EQ(ask(2, op::Receive{}).status, Status::ok);
        ASSERT_EQ(ask(1, op::Drop{at}).status, Status::ok);
        export_at(find_export(at)).pins = 1;
        EXPECT_EQ(ask(2, op::Drop{at}).status, Status::ok);
        EXPECT_EQ(ask(1, op::TakeReturned{}).status, Status::miss);
        EXPECT_NE(find_export(at), NO_RECORD);
    });
}

}  // namespace
}  // namespace aep
