// Purpose: topics: each subscriber takes all that is published, in order, as far behind as it may be; what is kept goes in time, and with the last
//          who has the topic open.
// Who calls it: ctest. The operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include "dsm-core/sharing/inbox.hpp"
#include "dsm-core/sharing/records.hpp"
#include "tests/node/topic_tables.hpp"

namespace aep {
namespace {

using namespace test;

constexpr op::Subscribe BLOCK{.behind = Behind::block};
constexpr op::Subscribe DROP_OLDEST{.behind = Behind::drop_oldest};
constexpr op::Subscribe FAIL{.behind = Behind::fail};

TEST(Topics, EachTakesAllInOrderWithAReferenceOfItsOwn) {
    with_tables([](Host&) {
        const u64 at = all_take_part();
        const TopicUse mine = open(1, named("prices"));
        const TopicUse theirs[] = {subscribed(2, named("prices"), BLOCK),
                                   subscribed(3, named("prices"), DROP_OLDEST)};
        for (u64 i = 0; i < 5; ++i)
            ASSERT_EQ(ask(1, op::Publish{.use = mine,
                                         .object = at + i * 64,
                                         .bytes = 64,
                                         .label = {.tag = i, .type = 7, .version = 3}})
                          .status,
                      Status::ok);
        EXPECT_EQ(ask(1, op::Query{at, true}).references, 2u);  // its own, and the topic's
        for (u32 s = 0; s < 2; ++s) {
            for (u64 i = 0; i < 5; ++i) {
                const auto taken = ask(2 + s, op::TakePublication{theirs[s]});
                ASSERT_EQ(taken.status, Status::ok);
                EXPECT_EQ(taken.object, at + i * 64);
                EXPECT_EQ(taken.bytes, 64u);
                EXPECT_EQ(taken.sender, id_of(1));
                EXPECT_EQ(taken.label, (Label{i, 7, 3}));
                EXPECT_EQ(taken.missed, 0u);
            }
            EXPECT_EQ(ask(2 + s, op::TakePublication{theirs[s]}).status, Status::miss);
        }
        EXPECT_EQ(ask(1, op::Query{at, true}).references, 4u);
        EXPECT_EQ(walk(), "");
        // Who is no subscriber takes nothing; nor who uses another's.
        EXPECT_EQ(ask(1, op::TakePublication{mine}).status, Status::gone);
        EXPECT_EQ(ask(2, op::TakePublication{theirs[1]}).status, Status::gone);
        EXPECT_EQ(ask(2, op::Publish{.use = mine, .object = at}).status, Status::gone);
        EXPECT_EQ(ask(2, op::CloseTopic{mine}).status, Status::gone);
        for (u32 i = 0; i < 5; ++i)
            for (const u32 client : {1u, 2u, 3u})
                EXPECT_EQ(ask(client, op::Drop{at + u64{i} * 64}).status, Status::ok);
        // All are kept until the last one has closed.
        EXPECT_EQ(count_shares().exports, 5u);
        EXPECT_EQ(close(1, mine), Status::miss);
        EXPECT_EQ(close(2, theirs[0]), Status::miss);
        EXPECT_EQ(count_shares().exports, 5u);
        EXPECT_EQ(close(3, theirs[1]), Status::miss);
        while (ask(1, op::TakeReturned{}).status == Status::ok) continue;
        EXPECT_EQ(count_shares().exports, 0u);
        EXPECT_EQ(walk(), "");
    });
}

/// The publisher's own one goes with it; a group goes by its root, and is one.
TEST(Topics, ReferencesGoWithPublications) {
    with_tables([](Host&) {
        const u64 at = all_take_part(), group = at + 4096;
        const TopicUse mine = open(1, named("t"));
        const TopicUse two = subscribed(2, named("t"), BLOCK);
        const op::Publish away{.use = mine, .object = at, .bytes = 64, .drop = true};
        ASSERT_EQ(ask(1, away).status, Status::ok);
        EXPECT_EQ(ask(1, away).status, Status::not_held);
        ASSERT_EQ(ask(1, op::MakeGroup{.block = group, .bytes = 4096}).status, Status::ok);
        ASSERT_EQ(ask(1, op::SetRoot{.group = group, .root = group + 64, .bytes = 64}).status,
                  Status::ok);
        const auto published = ask(1, op::Publish{.use = mine, .object = group + 64, .drop = true});
        ASSERT_EQ(published.status, Status::ok);
        EXPECT_EQ(published.left_group, group);
        EXPECT_EQ(ask(2, op::TakePublication{two}).object, at);
        const auto taken = ask(2, op::TakePublication{two});
        EXPECT_EQ(taken.kind, ObjectKind::group);
        EXPECT_EQ(taken.object, group);
        EXPECT_EQ(ask(2, op::FindGroup{group + 64}).status, Status::ok);
        EXPECT_EQ(walk(), "");
        for (const u64 one : {at, group}) EXPECT_EQ(ask(2, op::Drop{one}).status, Status::ok);
        EXPECT_EQ(close(1, mine), Status::miss);
        EXPECT_EQ(close(2, two), Status::miss);
        EXPECT_EQ(walk(), "");
        while (ask(1, op::TakeReturned{}).status == Status::ok) continue;
        EXPECT_EQ(count_shares().exports, 0u);
    });
}

TEST(Topics, WhoIsTooFarBehindBlocksMissesOrFails) {
    with_tables([](Host&) {
        const u64 at = all_take_part();
        const TopicUse mine = open(1, named("t", 0, 8));
        op::Subscribe block = BLOCK, drop = DROP_OLDEST;
        block.most_messages = 3, drop.most_messages = 2;
        const TopicUse blocks = subscribed(2, named("t"), block);
        const TopicUse drops = subscribed(3, named("t"), drop);
        const auto publish = [&](u64 i) {
            return ask(1, op::Publish{.use = mine, .object = at + i * 64, .bytes = 64}).status;
        };
        for (u64 i = 0; i < 3; ++i) EXPECT_EQ(publish(i), Status::ok);
        EXPECT_EQ(publish(3), Status::full);
        const u32 room = words_of(topic(0), Sleep::departures).sequence.load();
        EXPECT_EQ(ask(2, op::TakePublication{blocks}).object, at);
        EXPECT_NE(words_of(topic(0), Sleep::departures).sequence.load(), room);
        EXPECT_EQ(publish(3), Status::ok);
        EXPECT_EQ(publish(4), Status::full);
        auto taken = ask(3, op::TakePublication{drops});
        EXPECT_EQ(taken.object, at + 2 * 64);
        EXPECT_EQ(taken.missed, 2u);
        EXPECT_EQ(ask(3, op::TakePublication{drops}).missed, 0u);
        // One for whom it fails is told of before one who blocks.
        op::Subscribe fail = FAIL;
        fail.most_messages = 1, fail.history = 1;
        const TopicUse fails = subscribed(4, named("t"), fail);
        EXPECT_EQ(publish(4), Status::busy);
        EXPECT_EQ(ask(4, op::TakePublication{fails}).object, at + 3 * 64);
        EXPECT_EQ(publish(4), Status::full);
        // Nobody waits for who has left, nor is anything kept from those who come.
        EXPECT_EQ(ask(2, op::Subscribe{blocks}).status, Status::ok);
        EXPECT_EQ(ask(2, op::Subscribe{blocks}).status, Status::gone);
        EXPECT_EQ(publish(4), Status::ok);
        EXPECT_EQ(publish(5), Status::busy);
        EXPECT_EQ(close(4, fails), Status::miss);
        for (u64 i = 5; i < 30; ++i) EXPECT_EQ(publish(i), Status::ok);
        taken = ask(3, op::TakePublication{drops});
        EXPECT_EQ(taken.object, at + 28 * 64);
        EXPECT_EQ(taken.missed, 24u);
        EXPECT_EQ(walk(), "");
        EXPECT_EQ(inbox_at(topic(0)).messages, 8u);
    });
}

/// As mailboxes: what is larger than all that one may be behind has room alone.
TEST(Topics, AreBoundedByWhatPublicationsAreAbout) {
    with_tables([](Host&) {
        const u64 at = all_take_part(), big = at, small = at + 512 * KiB, tiny = small + 64 * KiB;
        const TopicUse mine = open(1, named("t", 0, 0, 100));
        op::Subscribe block = BLOCK, drop = DROP_OLDEST;
        block.most_kib = 10, drop.most_kib = 5;
        const TopicUse blocks = subscribed(2, named("t"), block);
        const TopicUse drops = subscribed(3, named("t"), drop);
        const auto publish = [&](u64 object, u64 bytes) {
            return ask(1, op::Publish{.use = mine, .object = object, .bytes = bytes}).status;
        };
        EXPECT_EQ(publish(tiny, KiB - 1), Status::ok);
        EXPECT_EQ(publish(big, 300 * KiB), Status::ok);  // alone, for that one counts nothing
        EXPECT_EQ(publish(small, 2 * KiB), Status::full);
        EXPECT_EQ(publish(tiny, KiB - 1), Status::ok);
        EXPECT_EQ(ask(2, op::TakePublication{blocks}).object, tiny);
        EXPECT_EQ(publish(small, 2 * KiB), Status::full);
        EXPECT_EQ(ask(2, op::TakePublication{blocks}).object, big);
        for (u32 i = 0; i < 5; ++i) EXPECT_EQ(publish(small, 2 * KiB), Status::ok) << i;
        EXPECT_EQ(publish(small, 2 * KiB), Status::full);
        EXPECT_EQ(inbox_at(topic(0)).kib, 10u);  // the big one has gone, and what was before it
        EXPECT_EQ(walk(), "");
        const auto taken = ask(3, op::TakePublication{drops});
        EXPECT_EQ(taken.object, small);
        EXPECT_EQ(taken.missed, 6u);  // 4 KiB are left
        EXPECT_EQ(ask(3, op::TakePublication{drops}).missed, 0u);
        EXPECT_EQ(ask(3, op::TakePublication{drops}).status, Status::miss);
        // What somebody holds counts, whether he says how large it is or not.
        ASSERT_EQ(ask(2, op::Subscribe{blocks}).status, Status::ok);
        for (u32 i = 0; i < 100; ++i)
            EXPECT_EQ(ask(1, op::Publish{.use = mine, .object = small}).status, Status::ok);
        EXPECT_EQ(inbox_at(topic(0)).kib, 100u);
        EXPECT_EQ(walk(), "");
    });
}

TEST(Topics, WhoComesLateTakesWhatIsKept) {
    with_tables([](Host&) {
        const u64 at = all_take_part();
        const TopicUse mine = open(1, named("t", 0, 4));
        for (u64 i = 0; i < 10; ++i)
            EXPECT_EQ(ask(1,
                          op::Publish{
                              .use = mine, .object = at + i * 4096, .bytes = 2 * KiB, .drop = true})
                          .status,
                      Status::ok);
        u32 returned = 0;
        for (op::TakeReturned::Reply reply; (reply = ask(1, op::TakeReturned{})).count != 0;)
            returned += reply.count;
        EXPECT_EQ(returned, 6u);
        const auto first_of = [&](u32 history) {
            op::Subscribe late = BLOCK;
            late.history = history;
            const TopicUse use = subscribed(2, named("t"), late);
            const auto taken = ask(2, op::TakePublication{use});
            EXPECT_EQ(topic_user_at(use.user()).next_kib, 2 * topic_user_at(use.user()).next);
            EXPECT_EQ(taken.missed, 0u);
            close(2, use);
            return taken.status == Status::ok ? (taken.object - at) / 4096 : 99;
        };
        EXPECT_EQ(first_of(0), 99u);
        EXPECT_EQ(first_of(1), 9u);
        EXPECT_EQ(first_of(3), 7u);
        EXPECT_EQ(first_of(4), 6u);
        EXPECT_EQ(first_of(~0u), 6u);
        EXPECT_EQ(walk(), "");
    });
}

TEST(Topics, AreFoundByTheirNames) {
    with_tables([](Host&) {
        all_take_part();
        EXPECT_EQ(ask(1, named("")).status, Status::miss);
        for (const u32 none :
             {0u, 1u, FIRST_FURTHER, first_topic() - 1, first_topic() + MOST_TOPICS, ~0u}) {
            op::OpenTopic wrong = named("a");
            wrong.topic = none;
            EXPECT_EQ(ask(1, wrong).status, Status::miss) << none;
        }
        const TopicUse a = open(1, named("a", 0, 5, 6)), b = open(2, named("b", 1));
        EXPECT_EQ(ask(2, named("a", 1)).status, Status::exists);  // that is another one
        EXPECT_EQ(ask(2, named("a", 2)).status, Status::exists);  // it is there already
        EXPECT_EQ(ask(2, named("b", 0)).status, Status::exists);
        const TopicUse again = open(1, named("a", 0, 7, 8));
        EXPECT_NE(again, a);
        EXPECT_EQ(topic_at(topic(0)).most_messages, 5u);  // what was said first counts
        EXPECT_EQ(inbox_at(topic(0)).most_kib, 6u);
        EXPECT_EQ(topic_at(topic(1)).most_messages, MAILBOX_MESSAGES);
        EXPECT_EQ(inbox_at(topic(1)).most_kib, usual_most_kib());
        EXPECT_EQ(close(1, a), Status::miss);
        EXPECT_EQ(ask(1, op::CloseTopic{a}).status, Status::gone);
        EXPECT_EQ(ask(1, op::Subscribe{a, Behind::block}).status, Status::gone);
        EXPECT_EQ(close(1, again), Status::miss);
        const TopicUse c = open(3, named("c", 0));  // in its place
        EXPECT_EQ(topic_at(topic(0)).most_messages, MAILBOX_MESSAGES);
        EXPECT_NE(c, a);
        EXPECT_NE(c, again);
        EXPECT_EQ(walk(), "");
        // There are only so many that are open.
        u32 more = 0;
        while (ask(4, named("c", 0)).status == Status::ok) ++more;
        EXPECT_EQ(more + 2, most_topic_users(context().max_clients));
        EXPECT_EQ(ask(3, named("d", 3)).status, Status::limit);
        leave(4);
        EXPECT_EQ(close(3, c), Status::miss);
        EXPECT_EQ(close(2, b), Status::miss);
        EXPECT_EQ(walk(), "");
    });
}

/// Of a publisher what it published stays; a subscriber holds up nobody any more; with the last one all goes.
TEST(Topics, OutliveTheirClientsButTheLast) {
    with_tables([](Host&) {
        const u64 at = all_take_part();
        const TopicUse ones = open(1, named("t"));
        op::Subscribe block = BLOCK;
        block.most_messages = 2;
        const TopicUse twos = open(2, named("t")), threes = subscribed(3, named("t"), block);
        for (u32 i = 0; i < 2; ++i)
            ASSERT_EQ(ask(1, op::Publish{.use = ones, .object = at + i * 64, .bytes = 64}).status,
                      Status::ok);
        leave(1);
        EXPECT_EQ(walk(), "");
        give_up_chunks(1);
        EXPECT_EQ(ask(3, op::TakePublication{threes}).object, at);
        const u64 theirs = chunk_address(ChunkIndex{first_chunk_of(2)});
        const op::Publish publish{.use = twos, .object = theirs, .bytes = 64};
        EXPECT_EQ(ask(2, publish).status, Status::ok);
        EXPECT_EQ(ask(2, publish).status, Status::full);
        const u32 room = words_of(topic(0), Sleep::departures).sequence.load();
        leave(3);
        EXPECT_NE(words_of(topic(0), Sleep::departures).sequence.load(), room);
        EXPECT_EQ(ask(2, publish).status, Status::ok);
        EXPECT_EQ(walk(), "");
        // It takes part no more, and keeps what it holds; the topic it does not.
        const u32 arrivals = words_of(topic(0), Sleep::arrivals).sequence.load();
        client_at(2).state.store(static_cast<u32>(ClientState::live));
        while (ask(2, op::CloseInbox{2}).status == Status::ok) continue;
        EXPECT_NE(words_of(topic(0), Sleep::arrivals).sequence.load(), arrivals);
        EXPECT_EQ(ask(2, publish).status, Status::gone);
        EXPECT_EQ(topic_at(topic(0)).first_user, 0u);
        EXPECT_EQ(inbox_at(topic(0)).messages, 0u);
        EXPECT_EQ(ask(2, op::Query{theirs}).own, 1u);
        EXPECT_EQ(count_shares().exports, 1u);  // the dead one's have gone
        EXPECT_EQ(walk(), "");
    });
}

/// A client that dies between two steps has still topics to be closed.
TEST(Topics, OfTheDeadAreClosedSomeAtATime) {
    with_tables([](Host&) {
        const u64 at = all_take_part();
        for (u32 i = 0; i < 12; ++i) {
            const std::string name = std::to_string(i);
            const TopicUse use = open(1, named(name.c_str(), i));
            for (u32 n = 0; n < 512; ++n)
                ASSERT_EQ(ask(1, op::Publish{.use = use, .object = at, .bytes = 64}).status,
                          Status::ok);
        }
        u32 steps = 1;
        while (ask(1, op::Leave{}).status == Status::ok) ++steps;
        EXPECT_GT(steps, 1u);
        EXPECT_FALSE(has_shares(share_client(1)));
        EXPECT_EQ(count_shares().exports, 0u);
        EXPECT_EQ(walk(), "");
    });
}

TEST(Topics, TheWalkFindsWhatIsPlanted) {
    const auto finds = [](const char* words, void (*damage)()) {
        with_tables([&](Host&) {
            const u64 at = all_take_part();
            const TopicUse mine = open(1, named("t"));
            subscribed(2, named("t"), BLOCK);
            for (u32 i = 0; i < 4; ++i)
                EXPECT_EQ(ask(1, op::Publish{.use = mine, .object = at, .bytes = 64}).status,
                          Status::ok);
            EXPECT_EQ(walk(), "");
            damage();
            EXPECT_NE(walk().find(words), std::string::npos) << words << ": " << walk();
        });
    };
    finds(
        "its count of references is wrong", [] { --inbox_at(topic(0)).messages; });
    finds(
        "somebody has it open, or it is", [] { inbox_at(topic(0)).open = 0; });
    finds(
        "somebody has it open, or it is", [] { inbox_at(topic(1)).open = 1; });
    finds(
        "it is nobody's, but keeps something", [] { inbox_at(topic(1)).messages = 1; });
    finds(
        "it is said to have another number of KiB", [] { ++inbox_at(topic(0)).kib; });
    finds(
        "it is on so many lists", [] { share_client(2).first_topic_user = 0; });
    finds(
        "it is on so many lists", [] { topic_at(topic(0)).first_user = 1; });
    finds(
        "it is nobody's, or is not", [] { sharing().free_topic_users = 2; });
    finds(
        "it is on another client's list", [] { topic_user_at(2).client = 3; });
    finds(
        "it is on another topic's list", [] { topic_user_at(2).topic = topic(5); });
    finds("it has taken what was not published", [] { topic_user_at(2).next = 5; });
    finds(
        "it has lost what it may not miss",
        [] {
            --inbox_at(topic(0)).messages;
            ++inbox_at(topic(0)).first_message;
        });
    finds("it may be further behind than it is said to",
          [] { topic_at(topic(0)).room_until = 1000; });
}

}  // namespace
}  // namespace aep
