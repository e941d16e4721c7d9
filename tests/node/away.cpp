// Purpose: what crosses nodes, step by step: numbers, what is believed of another machine, what lingers and when it goes.
// Who calls it: ctest. The operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include "dsm-core/sharing/away.hpp"

#include "dsm-core/sharing/records.hpp"
#include "node/context_state.hpp"
#include "tests/node/neighbour.hpp"

namespace aep {
namespace {

using namespace test;

constexpr Caller ONE{1, 1};
constexpr u64 BYTES = 64;

/// Clients 1 and 2 take part; where the first one's chunk begins.
u64 begin() {
    for (const u32 client : {1u, 2u}) {
        client_at(client).generation = 1;
        EXPECT_EQ(ask(client, op::Open{}).status, Status::ok);
    }
    return chunk_address(perform(1, op::ClaimChunks{.count = 1}).first);
}
ShareId here(u32 client = 1) { return id_of(client, 1); }

Status send(const Neighbour& other, u64 object) {
    return ask(1, op::Send{.object = object, .to = {other.id()}, .bytes = BYTES}).status;
}
op::Receive::Reply receive(u32 client = 1) { return ask(client, op::Receive{}); }
Status drop(u64 object) { return ask(1, op::Drop{.object = object}).status; }
op::Settle::Reply settle_all() { return perform(Caller{0, host_slot()}, op::Settle{}); }

/// An address of the other node's.
u64 theirs() { return chunk_address(ChunkIndex{context().chunk_count - 1}); }

const Export& export_of(u64 address) { return export_at(find_export(address)); }
u32 number_of(u64 address) { return export_of(address).object - 1; }
era::ObjectEntry& entry_of(u32 object) { return era_tables().object(object); }
bool node_refers_to(u32 object) {
    return era_tables().ref(HERE, object).load() == era::Cell::of(object).bits;
}

// ---- numbers, and what is said of an object

TEST(Away, NumbersThatAreInUseAreNotGivenAgain) {
    between_nodes([](Neighbour& other) {
        const u64 a = begin();
        const era::Tables t = era_tables();
        const u32 first = t.first_object(HERE);
        // Of a former life of the node, and held by the other one.
        t.object(first).serial.store(1);
        t.count(first).store(era::CountWord::make(t.writer(THERE, 0), 1, 1).bits);
        // Of an export of this node's, to which nobody refers so far.
        export_of_object(first + 1).put(77);
        EXPECT_EQ(send(other, a), Status::ok);
        EXPECT_EQ(number_of(a), first + 2);
    });
}

TEST(Away, OfEachObjectItIsSaidWhereItIs) {
    between_nodes([](Neighbour& other) {
        const u64 a = begin(), b = a + 4096, group = a + 8192;
        EXPECT_EQ(send(other, a), Status::ok);
        const u32 number = number_of(a);
        const era::ObjectEntry& entry = entry_of(number);
        EXPECT_EQ(entry.address.load(), a);
        EXPECT_EQ(entry.bytes.load(), BYTES);
        EXPECT_EQ(entry.head.load(), 0u);
        const u64 serial = entry.serial.load();
        other.drop_all();
        EXPECT_EQ(drop(a), Status::ok);
        EXPECT_EQ(entry.count.load(), era::FREE_OBJECT.bits);
        sharing().next_object = 0;
        EXPECT_EQ(send(other, b), Status::ok);
        ASSERT_EQ(number_of(b), number) << "its number is used again";
        EXPECT_EQ(entry.address.load(), b);
        EXPECT_EQ(entry.serial.load(), serial + 1) << "and it is another object";
        ASSERT_EQ(ask(1, op::MakeGroup{.block = group, .bytes = 4096}).status, Status::ok);
        EXPECT_EQ(send(other, group), Status::ok);
        EXPECT_EQ(entry_of(number_of(group)).head.load(), group);
    });
}

TEST(Away, ASendLeavesNothingBehind) {
    between_nodes([](Neighbour& other) {
        const u64 a = begin();
        EXPECT_EQ(send(other, a), Status::ok);
        EXPECT_EQ(export_of(a).node_ref.load(), NodeRef::held);
        EXPECT_EQ(export_of(a).pins.load(), 0u);
        EXPECT_EQ(pin_of(1).load(), NO_RECORD);
        for (u32 i = 0; i < MAX_LANES; ++i) EXPECT_EQ(lane_taken(i).load(), 0u) << i;
    });
}

TEST(Away, AReferenceGoesWithItsMessage) {
    between_nodes([](Neighbour& other) {
        const u64 a = begin();
        const op::Send gone{.object = a, .to = {other.id()}, .bytes = BYTES, .drop = true};
        ASSERT_EQ(ask(1, gone).status, Status::ok);
        EXPECT_EQ(drop(a), Status::not_held);
        EXPECT_TRUE(node_refers_to(number_of(a)));
        other.drop_all();
        EXPECT_EQ(settle_all().given_up, 1u);
        EXPECT_EQ(ask(1, op::TakeReturned{}).status, Status::ok);
        const op::Send kept{.object = a, .to = {other.id()}, .bytes = BYTES};
        while (ask(1, kept).status == Status::ok) continue;
        EXPECT_EQ(ask(1, gone).status, Status::full);
        EXPECT_EQ(drop(a), Status::ok);
    });
}

TEST(Away, WhoDoesNotReceiveLeavesRoomForOthers) {
    between_nodes([](Neighbour& other) {
        const u64 a = begin();
        u32 sent = 0;
        Status status = Status::ok;
        while ((status = send(other, a)) == Status::ok) ++sent;
        EXPECT_EQ(status, Status::full);
        EXPECT_EQ(sent, era_tables().shape.slots / 2);
    });
}

TEST(Away, ToAFormerLifeOfAClientNothingIsSent) {
    between_nodes([](Neighbour& other) {
        const u64 a = begin();
        const ShareId now{other.id()};
        const ShareId former = ShareId::make(now.inbox(), 9, THERE, 1);
        ASSERT_NE(former.bits, now.bits);
        EXPECT_EQ(ask(1, op::Send{.object = a, .to = former, .bytes = BYTES}).status, Status::gone);
        era_tables().node(THERE).store(0);
        EXPECT_EQ(send(other, a), Status::gone);
    });
}

TEST(Away, WhoIsDeclaredDeadSharesNothingAnyMore) {
    between_nodes([](Neighbour& other) {
        const u64 a = begin();
        EXPECT_EQ(send(other, a), Status::ok);
        EXPECT_FALSE(is_fenced());
        era_tables().node(HERE).store(0);
        EXPECT_EQ(send(other, a), Status::fenced);
        EXPECT_TRUE(is_fenced());
    });
}

// ---- what comes

TEST(Away, WhatComesIsHeldAndGoes) {
    between_nodes([](Neighbour& other) {
        begin();
        other.send(0, theirs(), here().bits);
        const op::Receive::Reply reply = receive();
        EXPECT_EQ(reply.status, Status::ok);
        EXPECT_EQ(reply.object, theirs());
        EXPECT_EQ(export_of(theirs()).references.load(), 1u);
        EXPECT_TRUE(node_refers_to(other.number_of(0)));
        EXPECT_EQ(drop(theirs()), Status::ok);
        settle_all();
        EXPECT_FALSE(node_refers_to(other.number_of(0)));
        EXPECT_EQ(count_shares().exports, 0u);
        EXPECT_EQ(walk(), "");
    });
}

TEST(Away, AMessageIsItsReceivers) {
    between_nodes([](Neighbour& other) {
        begin();
        other.send(0, theirs(), here(2).bits);
        EXPECT_EQ(receive(1).status, Status::miss);
        EXPECT_EQ(receive(2).status, Status::ok);
    });
}

/// A message whose number is none, as a damaged machine writes it.
TEST(Away, NumbersBeyondTheTablesAreNotBelieved) {
    between_nodes([](Neighbour& other) {
        begin();
        other.send(0, theirs(), here().bits);
        era::Word& cell = era_tables().message(THERE, HERE, 0);
        ASSERT_EQ(cell.load(), era::Cell::of(other.number_of(0)).bits);
        cell.store(era::Cell::of(0x7fff'ffff).bits);
        EXPECT_EQ(receive().status, Status::miss);
        EXPECT_EQ(count_shares().exports, 0u);
    });
}

TEST(Away, OfADeadNodeNobodyIsWaitedFor) {
    between_nodes([](Neighbour& other) {
        begin();
        const op::Receive from{.from = {other.id()}};
        EXPECT_EQ(ask(1, from).status, Status::miss);
        era_tables().node(THERE).store(0);
        EXPECT_EQ(ask(1, from).status, Status::gone);
    });
}

TEST(Away, WithoutRecordsTheMessageStays) {
    between_nodes(
        [](Neighbour& other) {
            begin();
            other.send(0, theirs(), here().bits);
            EXPECT_EQ(receive().status, Status::need_records);
            perform(ONE, op::AddRecords{.exports = 1000, .holders = 1000});
            EXPECT_EQ(receive().status, Status::ok);
        },
        0);
}

/// Here the place of the node's reference is taken: as when somebody else is at the message.
TEST(Away, AMessageThatCannotBeTakenLeavesNoExport) {
    between_nodes([](Neighbour& other) {
        begin();
        other.send(0, theirs(), here().bits);
        const u32 number = other.number_of(0);
        era::Word& place = era_tables().ref(HERE, number);
        place.store(era::Cell::empty(era_tables().writer(HERE, 1)).bits);
        EXPECT_EQ(receive().status, Status::miss);
        ASSERT_EQ(export_of_object(number).load(), NO_RECORD);
        EXPECT_EQ(count_shares().exports, 0u);
        place.store(era::Cell::empty().bits);
        EXPECT_EQ(receive().status, Status::ok);
    });
}

/// What another machine tells of an object is `change`d before it is received: it is handed to nobody.
template <class Change>
void expect_not_believed(Change change) {
    between_nodes([&](Neighbour& other) {
        const u64 own = begin();
        EXPECT_EQ(ask(1, op::Reference{.object = own, .bytes = BYTES}).status, Status::ok);
        other.send(0, theirs(), here().bits);
        change(entry_of(other.number_of(0)), own);
        EXPECT_EQ(receive().status, Status::gone);
        settle_all();
        EXPECT_EQ(count_shares().exports, 1u) << "the own one";
        EXPECT_FALSE(node_refers_to(other.number_of(0)));
        EXPECT_EQ(walk(), "");
    });
}

TEST(Away, AddressesOutsideThePoolAreNotBelieved) {
    const auto expect_at = [](u64 address) {
        expect_not_believed([&](era::ObjectEntry& entry, u64) { entry.address.store(address); });
    };
    expect_at(4096);
    expect_at(HEAP_BASE + HEAP_WINDOW - CHUNK_SIZE);  // the pool is smaller
}
TEST(Away, NorLengthsBeyondIt) {
    expect_not_believed([](era::ObjectEntry& entry, u64) { entry.bytes.store(CHUNK_SIZE + 1); });
    expect_not_believed([](era::ObjectEntry& entry, u64) { entry.bytes.store(0); });
}
TEST(Away, NorAddressesThatAreKnownAsAnotherObjects) {
    expect_not_believed([](era::ObjectEntry& entry, u64 own) { entry.address.store(own); });
}

TEST(Away, NorRootsThatLieElsewhere) {
    for (const u64 head : {u64{4096}, u64{0}}) {
        between_nodes([&](Neighbour& other) {
            const u64 own = begin();
            EXPECT_EQ(ask(1, op::Reference{.object = own, .bytes = BYTES}).status, Status::ok);
            other.send(0, theirs(), here().bits, true);
            entry_of(other.number_of(0)).head.store(head != 0 ? head : own);
            EXPECT_EQ(receive().kind, ObjectKind::group);
            EXPECT_EQ(export_of(theirs()).root.load(), NO_RECORD);
        });
    }
}

// ---- what lingers

/// The client has received the other's object `i` and dropped it: it lingers.
void receive_and_drop(Neighbour& other, u32 i) {
    other.send(i, theirs() + i * BYTES, here().bits);
    EXPECT_EQ(receive().status, Status::ok);
    EXPECT_EQ(drop(theirs() + i * BYTES), Status::ok);
}
u32 visiting() { return sharing().visiting.count.load(); }

TEST(Away, WhatComesAgainWhileItLingersStays) {
    between_nodes([](Neighbour& other) {
        begin();
        receive_and_drop(other, 0);
        EXPECT_EQ(export_of(theirs()).state.load(), static_cast<u32>(ExportState::lingering));
        other.send(0, theirs(), here().bits);
        EXPECT_EQ(receive().status, Status::ok);
        EXPECT_EQ(export_of(theirs()).state.load(), static_cast<u32>(ExportState::live));
        settle_all();
        EXPECT_TRUE(node_refers_to(other.number_of(0)));
        EXPECT_EQ(walk(), "");
    });
}

TEST(Away, WhatIsPinnedIsNotGivenUp) {
    between_nodes([](Neighbour& other) {
        begin();
        receive_and_drop(other, 0);
        Export& e = export_at(find_export(theirs()));
        e.pins.put(1);
        settle_all();
        EXPECT_TRUE(node_refers_to(other.number_of(0)));
        e.pins.put(0);
    });
}

TEST(Away, WhatOthersHoldIsNotGivenUp) {
    between_nodes([](Neighbour& other) {
        const u64 a = begin();
        EXPECT_EQ(send(other, a), Status::ok);
        const u32 number = number_of(a);
        EXPECT_EQ(drop(a), Status::ok);
        EXPECT_EQ(settle_all().given_up, 0u);
        EXPECT_TRUE(node_refers_to(number));
        other.drop_all();
        EXPECT_EQ(settle_all().given_up, 1u);
        EXPECT_EQ(era_tables().count(number).load(), era::FREE_OBJECT.bits);
        EXPECT_EQ(export_of_object(number).load(), NO_RECORD);
    });
}

/// Who has dropped the last reference finds out at once that nobody else has one.
TEST(Away, WhatNobodyElseHoldsGoesWithTheDrop) {
    between_nodes([](Neighbour& other) {
        const u64 a = begin();
        EXPECT_EQ(send(other, a), Status::ok);
        const u32 number = number_of(a);
        other.drop_all();
        EXPECT_EQ(drop(a), Status::ok);
        EXPECT_EQ(era_tables().count(number).load(), era::FREE_OBJECT.bits);
    });
}

TEST(Away, WhoseObjectGoesIsTold) {
    between_nodes([](Neighbour& other) {
        begin();
        receive_and_drop(other, 0);
        const era::Word& bell = era_tables().entry(THERE).doorbell;
        const u64 before = bell.load();
        EXPECT_EQ(settle_all().given_up, 1u);
        EXPECT_NE(bell.load(), before);
    });
}

TEST(Away, WhatOthersWaitForGoesAtOnce) {
    between_nodes([](Neighbour& other) {
        begin();
        receive_and_drop(other, 0);
        EXPECT_EQ(visiting(), 1u);
        era_tables().waiting().store(u64{1} << THERE);
        receive_and_drop(other, 1);
        EXPECT_EQ(visiting(), 0u);
    });
}

constexpr u32 MOST = 256;

TEST(Away, NoMoreThanSoMuchOfOthersLingers) {
    between_nodes([](Neighbour& other) {
        begin();
        for (u32 i = 0; i < MOST; ++i) receive_and_drop(other, i);
        EXPECT_EQ(visiting(), MOST);
        receive_and_drop(other, MOST);
        EXPECT_LT(visiting(), MOST);
    });
    between_nodes([](Neighbour& other) {
        begin();
        other.send(0, theirs(), here().bits);
        entry_of(other.number_of(0)).bytes.store(2 * MiB);
        EXPECT_EQ(receive().status, Status::ok);
        EXPECT_EQ(drop(theirs()), Status::ok);
        EXPECT_EQ(visiting(), 0u);
    });
}

// ---- the dead

TEST(Away, MailOfTheDeadIsDropped) {
    between_nodes([](Neighbour& other) {
        begin();
        other.send(0, theirs(), id_of(2, 9).bits);  // of a former life
        other.drop(0);
        other.send(1, theirs() + BYTES, here().bits);
        perform(Caller{0, host_slot()}, op::Tidy{});
        EXPECT_EQ(era_tables().count(other.number_of(0)).load(), era::FREE_OBJECT.bits);
        EXPECT_EQ(receive().status, Status::ok);
    });
}

TEST(Away, WhoIsGoneIsListedNoMore) {
    between_nodes([](Neighbour&) {
        begin();
        const era::DirectoryEntry& entry = era_tables().client(HERE, 1);
        EXPECT_EQ(entry.id.load(), here().bits);
        while (perform(ONE, op::Leave{}).status == Status::ok) continue;
        EXPECT_EQ(entry.id.load(), 0u);
        EXPECT_EQ(entry.claim.load(), 0u);
    });
}

TEST(Away, LanesOfTheDeadAreFree) {
    between_nodes([](Neighbour&) {
        begin();
        lane_taken(0).store(3 + 1);
        lane_taken(1).store(4 + 1);
        settle_lanes(3, NO_RECORD);
        EXPECT_EQ(lane_taken(0).load(), 0u);
        EXPECT_EQ(lane_taken(1).load(), 4u + 1);
    });
}

TEST(Away, WhatADeadSlotSaysItHadPinnedIsLookedAt) {
    between_nodes([](Neighbour&) {
        const u64 a = begin();
        EXPECT_EQ(ask(1, op::Reference{.object = a, .bytes = BYTES}).status, Status::ok);
        const auto finish = [](u32 slot) {
            return perform(Caller{0, host_slot()}, op::FinishAway{slot}).status;
        };
        EXPECT_EQ(finish(context().max_slots + (1u << 28)), Status::miss);
        for (const u32 pinned : {find_export(a), MAX_EXPORTS - 1}) {
            pin_of(2).put(pinned);
            EXPECT_EQ(finish(2), Status::ok);
            EXPECT_EQ(pin_of(2).load(), NO_RECORD);
        }
        EXPECT_EQ(export_of(a).pins.load(), 0u);
        EXPECT_EQ(walk(), "");
    });
}

}  // namespace
}  // namespace aep
