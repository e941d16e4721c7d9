// Purpose: inboxes: a client's further ones, how many there are and whose; how much memory messages may be about.
// Who calls it: ctest. The operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include "dsm-core/sharing/inbox.hpp"

#include "dsm-core/sharing/records.hpp"
#include "tests/node/sharing_tables.hpp"

namespace aep {
namespace {

using namespace test;

constexpr u32 FURTHER = FIRST_FURTHER + 2;

/// Clients 1, 2 and 3 take part; 1 has chunks, which begin at the address.
u64 three_take_part() {
    EXPECT_EQ(perform(1, op::ClaimChunks{.count = 8}).status, Status::ok);
    for (u32 client = 1; client <= 3; ++client) {
        ++client_at(client).generation;
        EXPECT_EQ(ask(client, op::Open{}).status, Status::ok);
    }
    return chunk_address(ChunkIndex{first_chunk_of(1)});
}

Status send(ShareId to, u64 object, u64 bytes) {
    return ask(1, op::Send{.object = object, .to = to, .bytes = bytes}).status;
}

Status close(u32 client, u32 inbox) {
    Status status = Status::ok;
    while (status == Status::ok) status = ask(client, op::CloseInbox{inbox}).status;
    return status;
}

TEST(Inboxes, EachIsOneClientsAndItsIdIsNoOthers) {
    with_tables([](Host&) {
        EXPECT_EQ(ask(1, op::OpenInbox{FURTHER}).status, Status::gone);  // takes no part
        const u64 at = three_take_part();
        const auto opened = ask(2, op::OpenInbox{FURTHER});
        ASSERT_EQ(opened.status, Status::ok);
        EXPECT_EQ(ask(3, op::OpenInbox{FURTHER}).status, Status::exists);
        for (const u32 none : {0u, 1u, FIRST_FURTHER - 1,
                               FIRST_FURTHER + further_inboxes(context().max_clients), ~0u})
            EXPECT_EQ(ask(3, op::OpenInbox{none}).status, Status::miss) << none;
        EXPECT_EQ(send(opened.id, at, 64), Status::ok);
        EXPECT_EQ(ask(3, op::Receive{.at = FURTHER}).status, Status::gone);
        EXPECT_EQ(ask(3, op::CloseInbox{FURTHER}).status, Status::gone);
        EXPECT_EQ(ask(3, op::CloseInbox{2}).status, Status::gone);
        EXPECT_EQ(ask(3, op::LimitInbox{FURTHER, 1}).status, Status::gone);
        EXPECT_EQ(ask(3, op::Send{.object = at, .to = id_of(1), .as = FURTHER}).status,
                  Status::gone);
        EXPECT_EQ(ask(2, op::Receive{}).status, Status::miss);  // it is not in the main one
        EXPECT_EQ(ask(2, op::Receive{.at = FURTHER}).object, at);
        ASSERT_EQ(ask(2, op::Send{.object = at, .to = id_of(3), .as = FURTHER}).status, Status::ok);
        EXPECT_EQ(ask(3, op::Receive{}).sender.bits, opened.id.bits);
        EXPECT_EQ(close(2, FURTHER), Status::miss);
        EXPECT_EQ(send(opened.id, at, 64), Status::gone);
        const auto again = ask(3, op::OpenInbox{FURTHER});
        ASSERT_EQ(again.status, Status::ok);
        EXPECT_NE(again.id.bits, opened.id.bits);
        EXPECT_EQ(send(opened.id, at, 64), Status::gone);
        EXPECT_EQ(walk(), "");
    });
}

/// Under another id what is sent to the former one comes no more.
TEST(Inboxes, AnEmptyOneMayGetAnotherId) {
    with_tables([](Host&) {
        const u64 at = three_take_part();
        const ShareId first = ask(2, op::OpenInbox{FURTHER}).id;
        ASSERT_EQ(send(first, at, 64), Status::ok);
        EXPECT_EQ(ask(2, op::OpenInbox{FURTHER, first}).status, Status::busy);
        EXPECT_EQ(ask(2, op::OpenInbox{FURTHER}).status, Status::exists);  // another thread of its
        ASSERT_EQ(ask(2, op::Receive{.at = FURTHER}).status, Status::ok);
        EXPECT_EQ(ask(3, op::OpenInbox{FURTHER, first}).status, Status::gone);
        const auto again = ask(2, op::OpenInbox{FURTHER, first});
        ASSERT_EQ(again.status, Status::ok);
        EXPECT_EQ(ask(2, op::OpenInbox{FURTHER, first}).status, Status::gone);
        EXPECT_EQ(send(first, at, 64), Status::gone);
        EXPECT_EQ(send(again.id, at, 64), Status::ok);
        EXPECT_EQ(walk(), "");
        EXPECT_EQ(close(2, FURTHER), Status::miss);
        EXPECT_EQ(share_client(2).inbox.next, 0u);  // it was on the list once
        EXPECT_EQ(walk(), "");
    });
}

/// What is in one goes with it, and with its client.
TEST(Inboxes, WhatNobodyTakesGoes) {
    with_tables([](Host&) {
        const u64 at = three_take_part();
        for (u32 i = 0; i < 5; ++i)
            ASSERT_EQ(ask(2, op::OpenInbox{FURTHER + i}).status, Status::ok);
        for (u32 i = 0; i < 5; ++i)
            for (u32 n = 0; n < 100; ++n)
                ASSERT_EQ(send(id_of(FURTHER + i), at + u64{n} * 64, 64), Status::ok);
        EXPECT_EQ(close(2, FURTHER + 2), Status::miss);  // from the middle of its list
        EXPECT_EQ(walk(), "");
        EXPECT_EQ(close(2, FURTHER + 4), Status::miss);  // the first of it
        EXPECT_EQ(walk(), "");
        while (ask(2, op::Leave{}).status == Status::ok) continue;
        EXPECT_FALSE(has_shares(share_client(2)));
        for (u32 i = 0; i < 5; ++i) {
            EXPECT_EQ(inbox_at(FURTHER + i).client, 0u) << i;
            EXPECT_EQ(send(id_of(FURTHER + i), at, 64), Status::gone) << i;
        }
        EXPECT_EQ(walk(), "");
        for (u32 n = 0; n < 100; ++n)
            EXPECT_EQ(ask(1, op::Drop{at + u64{n} * 64}).status, Status::ok);
        EXPECT_EQ(count_shares().exports, 0u);
    });
}

/// What a client holds and has sent stays; it can come again, as the same.
TEST(Inboxes, WhoTakesPartNoMoreKeepsWhatItHas) {
    with_tables([](Host&) {
        const u64 at = three_take_part();
        const ShareId one = id_of(1), two = id_of(2);
        ASSERT_EQ(send(two, at, 64), Status::ok);
        ASSERT_EQ(ask(2, op::Receive{}).status, Status::ok);
        ASSERT_EQ(send(two, at + 64, 64), Status::ok);  // not received
        ASSERT_EQ(ask(2, op::OpenInbox{FURTHER}).status, Status::ok);
        client_at(2).state.store(static_cast<u32>(ClientState::live));
        EXPECT_EQ(close(2, 2), Status::miss);
        EXPECT_EQ(inbox_at(FURTHER).client, 0u);
        EXPECT_EQ(walk(), "");
        EXPECT_EQ(send(two, at, 64), Status::gone);
        for (const Status status :
             {ask(2, op::Send{.object = at, .to = one}).status, ask(2, op::Receive{}).status,
              ask(2, op::Reference{at}).status, ask(2, op::OpenInbox{FURTHER}).status})
            EXPECT_EQ(status, Status::gone);
        EXPECT_EQ(ask(2, op::Query{at}).own, 1u);
        ASSERT_EQ(ask(2, op::Open{}).status, Status::ok);
        EXPECT_EQ(id_of(2), two);
        EXPECT_EQ(ask(2, op::Receive{}).status, Status::miss);
        EXPECT_EQ(send(two, at, 64), Status::ok);
        EXPECT_EQ(ask(2, op::Drop{at}).status, Status::ok);
        EXPECT_EQ(walk(), "");
    });
}

TEST(Inboxes, AreBoundedByWhatMessagesAreAbout) {
    with_tables([](Host&) {
        const u64 at = three_take_part();
        const ShareId to = id_of(2);
        const auto limit = [&](u32 kib) {
            EXPECT_EQ(ask(2, op::LimitInbox{2, kib}).status, Status::ok);
        };
        const u64 big = at, small = at + 512 * KiB, tiny = small + 64 * KiB;
        limit(100);
        EXPECT_EQ(send(to, big, 300 * KiB), Status::ok);  // alone it has room
        EXPECT_EQ(send(to, small, 2 * KiB), Status::full);
        EXPECT_EQ(send(to, tiny, KiB - 1), Status::ok);  // that counts for nothing
        EXPECT_EQ(ask(2, op::Receive{}).object, big);
        for (u32 i = 0; i < 50; ++i) EXPECT_EQ(send(to, small, 2 * KiB), Status::ok) << i;
        EXPECT_EQ(send(to, small, 2 * KiB), Status::full);
        limit(101);  // there is room for half of it
        EXPECT_EQ(send(to, small, 2 * KiB), Status::full);
        EXPECT_EQ(inbox_at(2).kib, 100u);
        EXPECT_EQ(walk(), "");
        limit(0);
        EXPECT_EQ(send(to, big, 300 * KiB), Status::ok);
        limit(10);  // less than there is
        EXPECT_EQ(send(to, small, 2 * KiB), Status::full);
        while (ask(2, op::Receive{}).status == Status::ok) continue;
        EXPECT_EQ(inbox_at(2).kib, 0u);
        EXPECT_EQ(walk(), "");
        // As long as nobody says anything: a quarter of the pool; whatever was said of that inbox before.
        const u64 usual = context().chunk_count * u64{CHUNK_SIZE} / 4;
        EXPECT_EQ(inbox_at(3).most_kib * u64{KiB}, usual);
        ASSERT_EQ(ask(3, op::OpenInbox{FURTHER}).status, Status::ok);
        ASSERT_EQ(ask(3, op::LimitInbox{FURTHER, 0}).status, Status::ok);
        EXPECT_EQ(close(3, FURTHER), Status::miss);
        ASSERT_EQ(ask(3, op::OpenInbox{FURTHER}).status, Status::ok);
        EXPECT_EQ(inbox_at(FURTHER).most_kib * u64{KiB}, usual);
    });
}

/// Who waits for room is told whenever there may be some.
TEST(Inboxes, RoomIsTold) {
    with_tables([](Host&) {
        const u64 at = three_take_part();
        const auto departures = [] { return words_of(2, Sleep::departures).sequence.load(); };
        ASSERT_EQ(send(id_of(2), at, 64), Status::ok);
        ASSERT_EQ(send(id_of(2), at + 4096, 4 * KiB), Status::ok);
        u32 before = departures();
        ASSERT_EQ(ask(2, op::Receive{}).status, Status::ok);
        EXPECT_EQ(departures(), before);  // it was never short of that
        ASSERT_EQ(ask(2, op::Receive{}).status, Status::ok);
        EXPECT_NE(departures(), before);
        before = departures();
        ASSERT_EQ(ask(2, op::LimitInbox{2, 5}).status, Status::ok);
        EXPECT_NE(departures(), before);
        before = departures();
        const u32 arrivals = words_of(2, Sleep::arrivals).sequence.load();
        EXPECT_EQ(close(2, 2), Status::miss);
        EXPECT_NE(departures(), before);
        EXPECT_NE(words_of(2, Sleep::arrivals).sequence.load(), arrivals);  // of its own threads
    });
}

}  // namespace
}  // namespace aep
