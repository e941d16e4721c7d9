// Purpose: since when clients take part: what whoever follows them is told, and who is woken for that.
// Who calls it: ctest. The operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include "dsm-core/sharing/peers.hpp"

#include <cstring>

#include "dsm-core/sharing/turn.hpp"
#include "shim/sharing/told_peer.hpp"
#include "tests/node/sharing_tables.hpp"

namespace aep {
namespace {

using namespace test;

Status open(u32 client, const char* name = "") {
    op::Open o;
    std::memcpy(o.name.text, name, std::strlen(name));
    return ask(client, o).status;
}

void die(u32 client) {
    while (ask(client, op::Leave{}).status == Status::ok) continue;
    ++client_at(client).generation;
}

void detach(u32 client) {
    while (ask(client, op::CloseInbox{client}).status == Status::ok) continue;
}

op::LookAtPeer::Reply look(u32 client) { return ask(1, op::LookAtPeer{client}); }

TEST(Peers, AStayIsCountedAndSoIsItsEnd) {
    with_tables([](Host&) {
        client_at(2).generation = 5;
        EXPECT_EQ(look(2).stays, 0u);
        ASSERT_EQ(open(2, "two"), Status::ok);
        EXPECT_EQ(look(2).stays, 1u);
        EXPECT_EQ(look(2).id.bits, id_of(2, 5).bits);
        EXPECT_STREQ(look(2).name.text, "two");
        ASSERT_EQ(open(2, "other"), Status::ok);
        EXPECT_EQ(look(2).stays, 1u);
        EXPECT_EQ(look(2).names, 1u);
        EXPECT_STREQ(look(2).name.text, "other");
        detach(2);
        EXPECT_EQ(look(2).stays, 2u);
        EXPECT_EQ(look(2).died, 0u);
        EXPECT_EQ(look(2).id.bits, id_of(2, 5).bits);
        EXPECT_STREQ(look(2).name.text, "");
        ASSERT_EQ(open(2), Status::ok);
        EXPECT_EQ(look(2).stays, 3u);
        die(2);
        EXPECT_EQ(look(2).stays, 4u);
        EXPECT_EQ(look(2).died, 1u);
        EXPECT_EQ(look(2).id.bits, id_of(2, 5).bits);  // as long as no other one has come
        die(2);                                        // a leave that is asked for again
        EXPECT_EQ(look(2).stays, 4u);
        ASSERT_EQ(open(2), Status::ok);
        EXPECT_EQ(look(2).id.bits, id_of(2, 7).bits);
        EXPECT_EQ(walk(), "");
    });
}

/// Who dies after it has left had one stay.
TEST(Peers, WhoLeftIsNotSaidToHaveDied) {
    with_tables([](Host&) {
        ASSERT_EQ(open(2), Status::ok);
        detach(2);
        die(2);
        EXPECT_EQ(look(2).stays, 2u);
        EXPECT_EQ(look(2).died, 0u);
    });
}

TEST(Peers, NumbersThatAreNoClientsAreNone) {
    with_tables([](Host&) {
        for (const u32 none : {0u, context().max_clients + 1, FIRST_FURTHER, ~0u})
            EXPECT_EQ(look(none).status, Status::miss) << none;
        EXPECT_EQ(look(context().max_clients).status, Status::ok);
        EXPECT_EQ(ask(0, op::LookAtPeer{1}).status, Status::gone);
    });
}

TEST(Peers, WhoWatchesForThemIsWoken) {
    with_tables([](Host&) {
        for (const u32 client : {1u, 3u}) ASSERT_EQ(open(client), Status::ok);
        ASSERT_EQ(ask(1, op::Watch{.peers = true}).status, Status::ok);
        ASSERT_EQ(ask(3, op::Watch{}).status, Status::ok);
        const auto news = [](u32 client) {
            return words_of(client, Sleep::arrivals).sequence.load();
        };
        const auto expect = [&](bool told, const char* what, auto&& change) {
            const u32 one = news(1), three = news(3), changed = sharing().peers_changed.load();
            change();
            EXPECT_EQ(news(1) != one, told) << what;
            EXPECT_EQ(news(3), three) << what;
            EXPECT_EQ(sharing().peers_changed.load() != changed, told) << what;
        };
        expect(
            true, "comes", [] { open(2, "two"); });
        expect(
            false, "the same name", [] { open(2, "two"); });
        expect(
            true, "another name", [] { open(2, "other"); });
        expect(
            true, "no name", [] { open(2); });
        expect(
            false, "no name again", [] { open(2); });
        open(4, "four");
        expect(
            false, "a name that another one has", [] { open(2, "four"); });
        expect(
            true, "leaves", [] { detach(2); });
        // Nobody watches any more.
        ASSERT_EQ(ask(1, op::Watch{}).status, Status::ok);
        const u32 before = news(1);
        open(2);
        EXPECT_EQ(news(1), before);
    });
}

/// What there is to tell of may have been there before somebody watched.
TEST(Peers, WhoBeginsToWatchLooksOnce) {
    with_tables([](Host&) {
        ASSERT_EQ(open(1), Status::ok);
        const auto news = [] { return words_of(1, Sleep::arrivals).sequence.load(); };
        const u32 before = news();
        ASSERT_EQ(ask(1, op::Watch{.peers = true}).status, Status::ok);
        EXPECT_NE(news(), before);
        EXPECT_EQ(share_client(1).inbox.watched, Inbox::MESSAGES_WATCHED | Inbox::PEERS_WATCHED);
        EXPECT_EQ(walk(), "");
    });
}

// ---- what is told of it (shim/sharing/told_peer.hpp)

op::LookAtPeer::Reply attendance(u32 stays, u64 id, bool died = false, u32 names = 0) {
    return {.stays = stays, .names = names, .died = died ? 1u : 0u, .id = {id}};
}

/// "kind id missed" of all that is told, one after the other.
std::string told(ToldPeer& known, const op::LookAtPeer::Reply& now) {
    constexpr const char* KINDS[] = {"?", "came", "left", "died", "renamed"};
    std::string text;
    PeerEvent event;
    for (int i = 0; i < 4 && known.tell(now, event); ++i)
        text += fmt::format("{} {} {}, ", KINDS[static_cast<u32>(event.change)], event.peer.bits,
                            event.missed);
    return text;
}

TEST(ToldPeer, WhatDiffersIsToldOnce) {
    ToldPeer known;
    EXPECT_EQ(told(known, attendance(0, 0)), "");
    EXPECT_EQ(told(known, attendance(1, 7)), "came 7 0, ");
    EXPECT_EQ(told(known, attendance(1, 7)), "");
    EXPECT_EQ(told(known, attendance(1, 7, false, 3)), "renamed 7 0, ");
    EXPECT_EQ(told(known, attendance(2, 7, false, 3)), "left 7 0, ");
    EXPECT_EQ(told(known, attendance(3, 7, false, 4)), "came 7 0, ");
    EXPECT_EQ(told(known, attendance(4, 7, true, 4)), "died 7 0, ");
    EXPECT_EQ(told(known, attendance(4, 7, true, 4)), "");
}

TEST(ToldPeer, StaysThatNobodyLookedAtAreCounted) {
    ToldPeer known;
    EXPECT_EQ(told(known, attendance(5, 7)), "came 7 2, ");
    EXPECT_EQ(told(known, attendance(7, 7)), "left 7 0, came 7 0, ");
    EXPECT_EQ(told(known, attendance(9, 8)), "died 7 0, came 8 0, ");
    EXPECT_EQ(told(known, attendance(13, 9)), "died 8 0, came 9 1, ");
    EXPECT_EQ(told(known, attendance(16, 9, false)), "left 9 0, left 9 0, ");
    EXPECT_EQ(told(known, attendance(22, 10, true)), "died 10 2, ");
    EXPECT_EQ(told(known, attendance(24, 11, true)), "died 11 0, ");
    // Numbers go round.
    known.begin(~0u - 1);
    EXPECT_EQ(told(known, attendance(1, 12)), "came 12 1, ");
}

/// Another node may have told of a stay that was undone.
TEST(ToldPeer, WhatIsUndoneIsNotCounted) {
    ToldPeer known;
    EXPECT_EQ(told(known, attendance(5, 7)), "came 7 2, ");
    EXPECT_EQ(told(known, attendance(4, 6, true)), "died 7 0, ");
    EXPECT_EQ(told(known, attendance(5, 8)), "came 8 0, ");
    known.begin(6);
    EXPECT_EQ(told(known, attendance(5, 8)), "came 8 0, ");
}

TEST(ToldPeer, WhoBeginsIsToldOfThoseWhoAreThere) {
    ToldPeer known;
    known.begin(9);
    EXPECT_EQ(told(known, attendance(9, 7)), "came 7 0, ");
    known.begin(8);
    EXPECT_EQ(told(known, attendance(8, 7, true)), "");
    PeerEvent event;
    EXPECT_FALSE(known.tell_lost(event));
    EXPECT_EQ(told(known, attendance(9, 7)), "came 7 0, ");
    EXPECT_TRUE(known.tell_lost(event));
    EXPECT_EQ(event.change, PeerChange::died);
    EXPECT_EQ(event.peer.bits, 7u);
    EXPECT_FALSE(known.tell_lost(event));
}

}  // namespace
}  // namespace aep
