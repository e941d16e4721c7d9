// Purpose: every store of every sharing operation within a node is a place to die: before and after
//          each the operation is undone or done, never half; so are the stores of recovery. And
//          without the log all of it is lost, so the test can fail.
// Who calls it: ctest. Operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include <set>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/topics.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "tests/node/sharing_tables.hpp"
#include "tests/undo/deaths.hpp"

namespace aep {
namespace {

using namespace test;

constexpr Caller ONE{1, 1}, TWO{2, 2}, THREE{3, 3};
constexpr Caller TWO_ELSEWHERE{2, 4};  // another thread of the second client

/// A client with chunks of its own, not yet taking part.
u64 memory_for(u32 client, u32 chunks) {
    const auto claimed = perform(client, op::ClaimChunks{.count = chunks});
    EXPECT_EQ(claimed.status, Status::ok);
    ++client_at(client).generation;
    return chunk_address(claimed.first);
}

ShareId id(u32 client) { return id_of(client, client_at(client).generation.load()); }

op::Open named(const char* name) {
    op::Open open{.barriers = true};
    std::memcpy(open.name.text, name, std::strlen(name));
    return open;
}

/// Inboxes beside the main ones; messages that count by what they are about.
void further_inboxes_are_used(Exhaustion& all, u64 a, u64 b) {
    const auto ok = [&](const Step& step) { EXPECT_EQ(all.run(step), Status::ok) << step.name; };
    const auto until_done = [&](const Step& step) {
        Status status = Status::ok;
        while (status == Status::ok) status = all.run(step);
        EXPECT_EQ(status, Status::miss) << step.name;
    };
    const u32 further = FIRST_FURTHER + 3, other = FIRST_FURTHER + 4;
    const u64 block = a + 64 * KiB, bytes = 40 * KiB;
    ok({"open a further inbox", TWO, op::OpenInbox{further}});
    ok({"open another", TWO, op::OpenInbox{other}});
    ok({"another id for it", TWO, op::OpenInbox{other, id_of(other)}});
    EXPECT_EQ(all.run({"open one of another's", ONE, op::OpenInbox{further}}), Status::exists);
    ok({"limit", TWO, op::LimitInbox{.inbox = further, .most_kib = 100}});
    for (int i = 0; i < 2; ++i)
        ok({"send of many KiB", ONE,
            op::Send{.object = block, .to = id_of(further), .bytes = bytes}});
    EXPECT_EQ(all.run({"full by KiB", ONE,
                       op::Send{.object = block, .to = id_of(further), .bytes = bytes}}),
              Status::full);
    ok({"receive of many KiB", TWO, op::Receive{.at = further}});
    ok({"send as a further one", TWO,
        op::Send{.object = b + 128, .to = id(1), .bytes = 64, .as = other}});
    ok({"receive by its id", ONE, op::Receive{.from = id_of(other)}});
    ok({"send to be dropped", ONE,
        op::Send{.object = a + 32 * KiB, .to = id_of(further), .bytes = 64}});
    ok({"drop what is in it only", ONE, op::Drop{.object = a + 32 * KiB}});
    until_done({"close a further inbox", TWO, op::CloseInbox{further}});
    EXPECT_EQ(perform(ONE, op::Send{.object = block, .to = id_of(further), .bytes = 64}).status,
              Status::gone);
    ok({"send for nobody", ONE, op::Send{.object = block, .to = id_of(other), .bytes = bytes}});
    const auto is = [](ClientState state) { client_at(2).state.store(static_cast<u32>(state)); };
    is(ClientState::live);  // and takes no part
    until_done({"take part no more", TWO, op::CloseInbox{2}});
    ok({"open again", TWO, named("two")});
    is(ClientState::free);
    // One that goes with its client.
    ok({"open one to be left", TWO, op::OpenInbox{other}});
    ok({"send to be left", ONE, op::Send{.object = block, .to = id_of(other), .bytes = bytes}});
}

/// Several at once: of those that come later the first ones have been taken already.
void many_come_back(Exhaustion& all, u64 a) {
    const auto ok = [&](const Step& step) { EXPECT_EQ(all.run(step), Status::ok) << step.name; };
    const u64 first = a + 128 * KiB;
    const auto come_back = [&](u32 from, u32 end) {
        for (u32 i = from; i < end; ++i) {
            const u64 object = first + u64{i} * 64;
            perform(ONE, op::Send{.object = object, .to = id(2), .bytes = 64, .drop = true});
            EXPECT_EQ(perform(TWO, op::Receive{}).object, object);
            perform(TWO, op::Drop{.object = object});
        }
    };
    come_back(0, 3);
    ok(Step{"take three", ONE, op::TakeReturned{}}.in_parts());
    constexpr u32 MANY = op::TakeReturned::MOST + 1;
    come_back(0, MANY);
    EXPECT_EQ(perform(ONE, op::TakeReturned{}).count, op::TakeReturned::MOST);
    EXPECT_NE(share_client(1).taken_back, NO_RECORD);
    come_back(MANY, MANY + 1);
    ok({"take the one that is left", ONE, op::TakeReturned{}});
    ok({"take one that has come meanwhile", ONE, op::TakeReturned{}});
    EXPECT_FALSE(has_returned(share_client(1)));
    // For who dies with some of either.
    come_back(0, MANY);
    EXPECT_EQ(perform(ONE, op::TakeReturned{}).count, op::TakeReturned::MOST);
    come_back(MANY, MANY + 1);
}

/// A reference that goes with its message: of what was never sent, one of several, the last one with some to spare and with none, a
/// group's by its root.
void references_go_with_messages(Exhaustion& all, u64 a) {
    const auto ok = [&](const Step& step) { EXPECT_EQ(all.run(step), Status::ok) << step.name; };
    const auto send = [](u64 object, u32 to) {
        return op::Send{.object = object, .to = id(to), .bytes = 64, .drop = true};
    };
    const u64 block = a + 96 * KiB, other = block + 64, group = block + 4096;
    ok({"send away", ONE, send(block, 2)});
    EXPECT_EQ(all.run({"send away what has gone", ONE, send(block, 2)}), Status::not_held);
    ok({"receive what was sent away", TWO, op::Receive{}});
    ok({"send on and away", TWO, send(block, 3)});
    ok({"receive it third hand", THREE, op::Receive{}});
    ok({"last drop of what was sent away", THREE, op::Drop{.object = block}});
    ok({"take it back", ONE, op::TakeReturned{}});
    for (int i = 0; i < 2; ++i)
        ok({"reference to send away", ONE, op::Reference{.object = other, .bytes = 64}});
    for (int i = 0; i < 2; ++i) ok({"send one of several away", ONE, send(other, 2)});
    ok({"send the last one away", ONE, send(other, 2)});
    EXPECT_EQ(perform(ONE, op::Drop{.object = other}).status, Status::not_held);
    while (perform(TWO, op::Receive{}).status == Status::ok) continue;
    for (int i = 0; i < 3; ++i) ok({"drop what was sent away", TWO, op::Drop{.object = other}});
    ok({"take that back", ONE, op::TakeReturned{}});
    ok({"a group to send away", ONE, op::MakeGroup{.block = group, .bytes = 4096}});
    ok({"its root", ONE, op::SetRoot{.group = group, .root = group + 64, .bytes = 64}});
    ok({"send the group away", ONE, send(group + 64, 2)});
    ok({"receive the group that was sent away", TWO, op::Receive{}});
    ok({"drop the group that was sent away", TWO, op::Drop{.object = group}});
    ok({"take the group back", ONE, op::TakeReturned{}});
}

/// Several messages in one operation: each is sent by itself, they are received as one. Of what is left of a dead operation the rest follows.
void many_at_once(Exhaustion& all, u64 a) {
    const auto ok = [&](const Step& step) { EXPECT_EQ(all.run(step), Status::ok) << step.name; };
    const u64 first = a + 200 * KiB;
    constexpr u8 COUNT = 4;
    for (const bool drop : {false, true}) {
        while (perform(TWO, op::Receive{}).status == Status::ok) continue;
        const u64 objects = first + (drop ? 4096 : 0);
        const auto rest_from = [=](u32 there) {
            op::SendMany rest{.to = id(2), .drop = drop};
            for (u32 i = there; i < COUNT; ++i) {
                rest.objects[rest.count] = objects + u64{i} * 64;
                rest.bytes[rest.count++] = 64;
            }
            return rest;
        };
        Step send = Step{"send many", ONE, rest_from(0)}.in_parts();
        send.perform = [=](Caller caller) {
            const u32 there = inbox_at(2).messages;
            return there == COUNT ? Status::miss : perform(caller, rest_from(there)).status;
        };
        ok(send);
        EXPECT_EQ(inbox_at(2).messages.load(), u32{COUNT});
        ok({"receive some of many", TWO, op::ReceiveMany{.most = 3}});
        ok({"receive the rest of many", TWO, op::ReceiveMany{}});
        EXPECT_EQ(all.run({"receive many of none", TWO, op::ReceiveMany{}}), Status::miss);
        const auto drop_the_rest = [=](const char* name, Caller who) {
            Step gone = Step{name, who, op::DropMany{}}.in_parts();
            gone.perform = [=](Caller caller) {
                op::DropMany rest;
                for (u32 i = 0; i < COUNT; ++i)
                    if (find_holder_at(caller.client, objects + u64{i} * 64) != NO_RECORD)
                        rest.objects[rest.count++] = objects + u64{i} * 64;
                return rest.count == 0 ? Status::miss : perform(caller, rest).status;
            };
            return gone;
        };
        if (!drop) ok(drop_the_rest("drop many", ONE));
        ok(drop_the_rest("last drop of many at once", TWO));
        while (perform(ONE, op::TakeReturned{}).status == Status::ok) continue;
    }
    // What cannot be sent ends it, and what comes before has gone.
    op::SendMany bad{.to = id(2), .count = 3};
    bad.objects[0] = bad.objects[1] = first, bad.bytes[0] = bad.bytes[1] = 64;
    bad.objects[2] = first + 64 * KiB;  // not its own, nor one that it holds
    const auto sent = perform(ONE, bad);
    EXPECT_EQ(sent.sent, 2u);
    EXPECT_EQ(sent.status, Status::not_held);
    const auto taken = perform(TWO, op::ReceiveMany{.from = id(1)});
    EXPECT_EQ(taken.count, 2u);
    EXPECT_EQ(taken.taken.message[1].object, first);
    for (int i = 0; i < 2; ++i) perform(TWO, op::Drop{.object = first});
    perform(ONE, op::Drop{.object = first});
    while (perform(ONE, op::TakeReturned{}).status == Status::ok) continue;
}

/// A topic of two places: opened by three, published in until one who blocks is behind and until the oldest goes, taken, left and closed.
void topics_are_used(Exhaustion& all, u64 a) {
    const auto ok = [&](const Step& step) { EXPECT_EQ(all.run(step), Status::ok) << step.name; };
    const u64 block = a + 300 * KiB;
    const u32 number = first_topic() + 1;
    op::OpenTopic open{.topic = number, .most_messages = 2};
    std::memcpy(open.name.text, "prices", 7);
    // What is opened when all is as it was before gets the same record.
    const auto next_use = [] {
        const u32 free = sharing().free_topic_users;
        const u32 index = free != 0 ? free : sharing().topic_users_used + 1;
        return TopicUse::make(index, topic_user_at(index).generation + 1);
    };
    const auto opened = [&](const char* name, Caller who) {
        const TopicUse use = next_use();
        ok({name, who, open});
        return use;
    };
    const TopicUse one = opened("open a topic", ONE), two = opened("open it, too", TWO);
    const TopicUse again = opened("open it again", TWO), three = opened("open it third", THREE);
    const auto publish = [=](u64 object, bool drop) {
        return op::Publish{.use = one, .object = object, .bytes = 64, .drop = drop};
    };
    ok({"publish for history", ONE, publish(block, false)});
    ok({"subscribe with history", TWO,
        op::Subscribe{.use = two, .behind = Behind::block, .history = 5}});
    ok({"subscribe to what comes", THREE,
        op::Subscribe{.use = three, .behind = Behind::drop_oldest, .most_messages = 1}});
    ok({"publish away", ONE, publish(block + 64, true)});
    EXPECT_EQ(all.run({"publish for who is behind", ONE, publish(block, false)}), Status::full);
    ok({"take one of history", TWO, op::TakePublication{two}});
    ok({"take what is new", TWO, op::TakePublication{two}});
    EXPECT_EQ(all.run({"take of nothing", TWO, op::TakePublication{two}}), Status::miss);
    // The oldest goes, and then it is published: two changes.
    const u64 head = topic_at(number).head;
    Step in_its_place = Step{"publish in its place", ONE, publish(block, false)}.in_parts();
    in_its_place.perform = [=](Caller caller) {
        return topic_at(number).head != head ? Status::miss
                                             : perform(caller, publish(block, false)).status;
    };
    ok(in_its_place);
    EXPECT_EQ(topic_at(number).head, head + 1);
    ok({"take with one missed", THREE, op::TakePublication{three}});
    ok({"leave a topic", TWO, op::Subscribe{.use = two}});
    ok({"drop what is in a topic", TWO, op::Drop{.object = block}});
    EXPECT_EQ(all.run({"close one of two", TWO, op::CloseTopic{two}}), Status::miss);
    EXPECT_EQ(all.run({"close the other", TWO, op::CloseTopic{again}}), Status::miss);
    EXPECT_EQ(all.run({"close by a subscriber", THREE, op::CloseTopic{three}}), Status::miss);
    EXPECT_EQ(all.run({"close the last", ONE, op::CloseTopic{one}}), Status::miss);
    EXPECT_EQ(topic_at(number).first_user, 0u);
    for (const Caller who : {TWO, THREE})
        for (const u64 object : {block, block + 64}) perform(who, op::Drop{.object = object});
    perform(ONE, op::Drop{.object = block});
    while (perform(ONE, op::TakeReturned{}).status == Status::ok) continue;
    // For who dies with one open, alone, and with others.
    open.topic = number;
    const TopicUse left = next_use();
    EXPECT_EQ(perform(ONE, open).status, Status::ok);
    EXPECT_EQ(perform(ONE, op::Publish{.use = left, .object = block, .bytes = 64}).status,
              Status::ok);
    EXPECT_EQ(perform(TWO, open).status, Status::ok);
}

/// Every operation, on every way through it.
void all_operations(Exhaustion& all) {
    const u64 a = memory_for(1, 5), b = memory_for(2, 5), c = memory_for(3, 2);
    const u64 large = a + CHUNK_SIZE / 2, bytes = CHUNK_SIZE * 3;  // fills two chunks
    const auto ok = [&](const Step& step) { EXPECT_EQ(all.run(step), Status::ok) << step.name; };
    ok({"open", ONE, named("one")});
    ok({"open", TWO, named("a name of many letters")});
    ok({"open without a name", THREE, op::Open{}});
    ok({"open under another name", TWO, named("two")});
    EXPECT_EQ(all.run({"open", THREE, named("one")}), Status::exists);
    ok({"add records", ONE, op::AddRecords{.exports = 900, .holders = 901}});
    ok({"watch", TWO, op::Watch{.peers = true}});
    ok({"look at a peer", ONE, op::LookAtPeer{.client = 2}});
    ok({"first send", ONE, op::Send{.object = a, .to = id(2), .bytes = 64}});
    ok({"second send", ONE, op::Send{.object = a, .to = id(2), .bytes = 64}});
    ok({"send of a large object", ONE, op::Send{.object = large, .to = id(2), .bytes = bytes}});
    ok({"send by another one", THREE, op::Send{.object = c, .to = id(2), .bytes = 64}});
    ok({"receive from behind", TWO, op::Receive{.from = id(3)}});
    ok({"receive", TWO, op::Receive{}});
    ok({"receive of what it has", TWO, op::Receive{}});
    ok({"receive of a large object", TWO, op::Receive{}});
    EXPECT_EQ(all.run({"receive of nothing", TWO, op::Receive{}}), Status::miss);
    ok({"reference", TWO, op::Reference{.object = a, .bytes = 64}});
    ok({"reference of a new one", TWO, op::Reference{.object = b, .bytes = 64}});
    ok({"query", TWO, op::Query{.object = a}});
    ok({"query by another thread", TWO_ELSEWHERE, op::Query{.object = a}});
    ok({"query again", TWO, op::Query{.object = a}});
    ok({"send on", TWO, op::Send{.object = a, .to = id(3), .bytes = 64}});
    ok({"receive third hand", THREE, op::Receive{}});
    for (int i = 0; i < 3; ++i) ok({"drop", TWO, op::Drop{.object = a}});
    ok({"drop by the owner", ONE, op::Drop{.object = a}});
    ok({"last drop by another", THREE, op::Drop{.object = a}});
    ok({"take returned", ONE, op::TakeReturned{}});
    ok({"drop of a large object", ONE, op::Drop{.object = large}});
    ok({"last drop of a large object", TWO, op::Drop{.object = large}});
    ok({"take the large one", ONE, op::TakeReturned{}});
    ok({"last drop by the owner", TWO, op::Drop{.object = b}});
    // More references than are searched one by one: a branch comes, and goes with the last of them.
    for (u64 i = 1; i <= 6; ++i)
        ok({"a reference of many", ONE, op::Reference{.object = a + 256 * i, .bytes = 64}});
    for (u64 i = 1; i <= 6; ++i) {
        ok({"drop of one of many", ONE, op::Drop{.object = a + 256 * i}});
        ok({"last drop of one of many", ONE, op::Drop{.object = a + 256 * i}});
    }
    references_go_with_messages(all, a);
    many_at_once(all, a);
    // A mailbox that is full.
    for (u32 i = 0; i < MAILBOX_MESSAGES; ++i)
        perform(ONE, op::Send{.object = a + 128, .to = id(2), .bytes = 64});
    EXPECT_EQ(all.run({"full", ONE, op::Send{.object = a + 128, .to = id(2), .bytes = 64}}),
              Status::full);
    ok({"receive makes room", TWO, op::Receive{}});
    // One that is taken from between others, of a full mailbox and of another, whose gap is closed when it is full.
    const auto send = [](Caller who, u64 object, u32 count) {
        for (u32 i = 0; i < count; ++i)
            perform(who, op::Send{.object = object, .to = id(2), .bytes = 64});
    };
    for (const bool full : {true, false}) {
        while (perform(TWO, op::Receive{}).status == Status::ok) continue;
        send(ONE, a + 128, 3), send(THREE, c, 1);
        if (full) send(ONE, a + 128, MAILBOX_MESSAGES - 4);
        ok({"receive from between", TWO, op::Receive{.from = id(3)}});
    }
    send(ONE, a + 128, MAILBOX_MESSAGES - 4);
    ok({"send when there are gaps only", ONE,
        op::Send{.object = a + 128, .to = id(2), .bytes = 64}});
    while (perform(TWO, op::Receive{}).status == Status::ok) continue;
    send(ONE, a + 128, 3), send(THREE, c, 1), send(ONE, a + 128, MAILBOX_MESSAGES - 4);
    ok({"receive from between again", TWO, op::Receive{.from = id(3)}});
    send(ONE, a + 128, 1);
    EXPECT_EQ(all.run({"full for what would go with it", ONE,
                       op::Send{.object = a + 128, .to = id(2), .bytes = 64, .drop = true}}),
              Status::full);
    further_inboxes_are_used(all, a, b);
    topics_are_used(all, a);
    // Groups: the second block of client 1's, a root, another one; the writer changes.
    const u64 group = a + 4096;
    ok({"make a group", ONE, op::MakeGroup{.block = group, .bytes = 4096}});
    ok({"extend", ONE, op::ExtendGroup{.group = group, .extent = a + 8192, .bytes = 4096}});
    ok({"extend by much", ONE, op::ExtendGroup{.group = group, .extent = large, .bytes = bytes}});
    ok({"root", ONE, op::SetRoot{.group = group, .root = a + 8192 + 64, .bytes = 64}});
    ok({"another root", ONE, op::SetRoot{.group = group, .root = group + 64, .bytes = 64}});
    ok({"send a group", ONE, op::Send{.object = group + 64, .to = id(3)}});
    ok({"receive a group", THREE, op::Receive{}});
    ok({"find", THREE, op::FindGroup{.object = group + 64}});
    ok({"hand over", ONE, op::SetWriter{.group = group, .writer = id(3)}});
    ok({"extend by the next", THREE,
        op::ExtendGroup{.group = group, .extent = c + 4096, .bytes = 64}});
    ok({"drop a group", THREE, op::Drop{.object = group}});
    ok({"last drop of a group", ONE, op::Drop{.object = group}});
    while (perform(ONE, op::TakeReturned{}).status == Status::ok) continue;
    ok({"make another", ONE, op::MakeGroup{.block = group, .bytes = 4096}});
    ok({"root of it", ONE, op::SetRoot{.group = group, .root = group + 128, .bytes = 64}});
    ok({"no root", ONE, op::SetRoot{.group = group}});
    ok({"extend it", ONE, op::ExtendGroup{.group = group, .extent = a + 8192, .bytes = 4096}});
    ok({"send it", ONE, op::Send{.object = group, .to = id(3)}});
    ok({"receive it", THREE, op::Receive{}});
    many_come_back(all, a);
    // Who is dead: the one whose objects others have, then the others.
    const auto leave = [&](Caller who) {
        for (Status status = Status::ok; status == Status::ok;)
            status = all.run({"leave", who, op::Leave{}});
        give_up_chunks(who.client);
    };
    ok({"send to who dies", THREE, op::Send{.object = c, .to = id(1), .bytes = 64}});
    leave(ONE);
    ok({"take over", THREE, op::TakeGroup{.group = group}});
    ok({"count unknown", THREE, op::CountUnknown{.group = group}});
    ok({"last drop of an orphan", THREE, op::Drop{.object = group}});
    leave(TWO);
    leave(THREE);
    EXPECT_EQ(count_shares().exports, 0u);
    if (undo_log_works) {
        EXPECT_EQ(walk(), "");
    }  // which chunks are freed is seen by the log
}

/// Whatever of many messages is there when their sender dies, the slot owes a wake to who sleeps for the first.
TEST(Undo, FromTheFirstOfManyMessagesOnItsReceiverIsOwedAWake) {
    with_tables([](Host&) {
        const u64 a = memory_for(1, 1);
        Stores& s = test::stores;
        ASSERT_EQ(perform(ONE, named("one")).status, Status::ok);
        ASSERT_EQ(perform(TWO, named("two")).status, Status::ok);
        inbox_at(2).arrival_waiters.store(1);
        const Step send{
            "send many", ONE,
            op::SendMany{.to = id(2), .count = 2, .objects = {a, a + 64}, .bytes = {64, 64}}};
        send.enter();
        u32 partly = 0;
        const usize begin = s.mark();
        for (u64 at = 1; !s.run([&] { send.perform(ONE); }, at); ++at) {
            const bool owes = slot_at(ONE.slot).owes.load() != 0;
            s.run([] { recover_slots(ONE.slot); });
            const u32 there = inbox_at(2).messages;
            EXPECT_TRUE(there == 0 || owes) << "dead at store " << at;
            partly += there == 1;
            s.take_back(begin);
        }
        EXPECT_GT(partly, 0u);
        EXPECT_EQ(slot_at(ONE.slot).owes.load(), 0u);
        EXPECT_EQ(inbox_at(2).messages.load(), 2u);
    });
}

TEST(Undo, EveryStoreOfEveryOperationIsSurvived) {
    with_tables([](Host&) {
        Exhaustion all;
        all_operations(all);
        EXPECT_EQ(all.faults.size(), 0u);
        for (usize i = 0; i < all.faults.size() && i < 20; ++i) ADD_FAILURE() << all.faults[i];
        std::printf("%llu deaths, %llu in recovery, %llu stores to words that are read\n",
                    static_cast<unsigned long long>(all.deaths),
                    static_cast<unsigned long long>(all.recovery_deaths),
                    static_cast<unsigned long long>(all.stores));
        EXPECT_GT(all.deaths, 1000u);
        EXPECT_GT(all.recovery_deaths, all.deaths);
    });
}

TEST(Undo, WithoutTheLogMuchIsLost) {
    with_tables([](Host&) {
        undo_log_works = false;
        Exhaustion all;
        all.every_recovery = u64{1} << 40;
        all_operations(all);
        std::set<std::string> broken;
        for (const std::string& fault : all.faults) broken.insert(fault.substr(0, fault.find(',')));
        for (const char* name :
             {"first send", "second send", "send away", "receive", "drop", "last drop by another",
              "last drop of a group", "extend", "hand over", "leave"})
            EXPECT_EQ(broken.count(name), 1u) << name;
    });
}

}  // namespace
}  // namespace aep
