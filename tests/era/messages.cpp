// Purpose: single dangers of messages by name: rings of the dead, hints of where messages are, slots that are used again.
// Who calls it: ctest.
// Crash rule: this is the test of the crash rules.
#include <gtest/gtest.h>

#include "tests/era/dying.hpp"
#include "tests/era/plans.hpp"

namespace aep::era::test {
namespace {

TEST(Era, deadReceiverDoesNotWedgeItsQueue) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    world.act_as(0, 0);
    Client sender = world.client(0, 0);
    EXPECT_EQ(sender.send(1, 0), Status::ok);
    EXPECT_EQ(sender.send(1, 0), Status::ok);
    EXPECT_EQ(sender.send(1, 0), Status::full);
    EXPECT_EQ(count_of(world, 0), 3U);
    world.crash(1);
    EXPECT_EQ(count_of(world, 0), 1U);
    world.act_as(0, 0);
    EXPECT_EQ(sender.send(1, 0), Status::no_node);
    const NodeWord again = join(world.memory, world.t, 1);
    ASSERT_NE(again.bits, 0U);
    EXPECT_EQ(sender.send(1, 0), Status::ok);
    world.act_as(1, 0);
    Lane<SimMemory> receiver(world.memory, world.t, 1, 0, again);
    u32 object = 77;
    EXPECT_EQ(receive(receiver, 0, 0, object), Status::ok);
    EXPECT_EQ(object, 0U);
    EXPECT_EQ(receive(receiver, 0, 1, object), Status::empty);
}

/// Its recovery has begun, and may take its time: nobody waits for room in a ring that nobody empties.
TEST(Era, aFullRingOfANodeThatIsBeingRecoveredIsNotWaitedFor) {
    Plan plan = alone();
    plan.recoverers = 0;
    World world(plan);
    world.begin();
    world.act_as(0, 0);
    while (world.client(0, 0).send(1, 0) == Status::ok) {
    }
    world.crash(1);
    ASSERT_TRUE(dies_at(world, 2, TAKEN, NEVER, [&] { world.recover_dead(2); }));
    world.act_as(0, 0);
    const std::vector<u8> before(world.t.base, world.t.base + world.t.at.bytes);
    EXPECT_EQ(world.client(0, 0).send(1, 0), Status::no_node);
    EXPECT_EQ(before, std::vector<u8>(world.t.base, world.t.base + world.t.at.bytes));
    world.recover_dead(2);
    EXPECT_EQ(count_of(world, 0), 1U);
    world.check();
    EXPECT_EQ(world.failure(), "");
}

/// The receiver is dead and recovered anywhere in the send, and then the sender dies, too.
TEST(Era, aMessageBetweenTwoThatDieIsNobodys) {
    Plan plan = alone();
    plan.recoverers = 0;
    World world(plan);
    u32 stranded = 0;
    bool declared = true;
    for (u64 when = 1; declared; ++when) {
        bool died = true;
        for (u64 last = when + 1; died; ++last) {
            declared = false;
            world.begin();
            u64 accesses = 0;
            bool recovering = false;
            died = dies_at(world, 0, last, NEVER, [&] {
                const auto deadly = world.memory.before;
                world.memory.before = [&](Access access, const Word& word) {
                    if (recovering) return;
                    if (++accesses == when) {
                        declared = recovering = true;
                        world.crash(1);
                        world.recover_dead(2);
                        world.act_as(0, 0);
                        recovering = false;
                    }
                    deadly(access, word);
                };
                world.client(0, 0).send(1, 0);
            });
            if (!declared) break;  // it was through before
            stranded += Cell{world.t.message(0, 1, 0).load()}.bits == Cell::of(0).bits;
            world.crash(0);
            world.recover_dead(2);
            world.check();
            ASSERT_EQ(world.failure(), "") << when << " of " << last;
            ASSERT_EQ(world.t.count(0).load(), FREE_OBJECT.bits) << when << " of " << last;
        }
    }
    EXPECT_GT(stranded, 0U) << "it was never there when the sender died";
}

TEST(Era, messagesOfADeadSenderArrive) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    world.act_as(0, 0);
    world.client(0, 0).create(1, 1);
    EXPECT_EQ(world.client(0, 0).send(1, 1), Status::ok);
    EXPECT_EQ(world.client(0, 0).send(1, 0), Status::ok);
    world.crash(0);
    world.act_as(1, 0);
    Client receiver = world.client(1, 0);
    EXPECT_EQ(receiver.receive(0, 0), Status::ok);
    EXPECT_EQ(receiver.receive(0, 1), Status::ok);
    EXPECT_EQ((world.held[{1, 0}]), 1U);  // in the order they were sent
    EXPECT_EQ((world.held[{1, 1}]), 0U);
    world.check();
    EXPECT_EQ(world.failure(), "");
}

TEST(Era, whoeverLooksEverywhereSaysWhereTheHintsAre) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    LocalMemory memory;
    for (u64 position = 0; position < 5; ++position) {
        world.act_as(0, 0);
        ASSERT_EQ(world.client(0, 0).send(1, 0), Status::ok);
        u64 found = ~u64{0};
        each_message(memory, world.t, 0, 1, true, [&](const RemoteMessage& w) {
            found = w.position;
            return true;
        });
        EXPECT_EQ(found, position);
        world.act_as(1, 0);
        ASSERT_EQ(world.client(1, 0).receive(0, 0), Status::ok);
        world.client(1, 0).release(0);
        EXPECT_EQ(world.t.head(0, 1).load(), position + 1)
            << "the next one would be looked for in vain";
    }
}

TEST(Era, aSenderThatReadTheHintLongAgoIsHeard) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    LocalMemory memory;
    const auto told = [&] {
        return each_message(memory, world.t, 0, 1, false,
                            [](const RemoteMessage&) { return true; });
    };
    for (int i = 0; i < 2; ++i) {  // as many as there are slots: the hints move on
        world.act_as(0, 0);
        ASSERT_EQ(world.client(0, 0).send(1, 0), Status::ok);
        world.act_as(1, 0);
        ASSERT_EQ(world.client(1, 0).receive(0, 0), Status::ok);
        world.client(1, 0).release(0);
    }
    world.act_as(0, 0);
    ASSERT_EQ(world.client(0, 0).send(1, 0), Status::ok);
    ASSERT_TRUE(told());
    // As if the slot had been passed before it was filled.
    world.t.head(0, 1).store(3);
    ASSERT_FALSE(told());
    EXPECT_TRUE(note_stray(memory, world.t, 0, 1, 2));
    EXPECT_TRUE(told());
    EXPECT_FALSE(note_stray(memory, world.t, 0, 1, 2)) << "it is told of by now";
    world.act_as(1, 0);
    ASSERT_EQ(world.client(1, 0).receive(0, 0), Status::ok);
    EXPECT_EQ(world.t.head(0, 1).load(), world.t.tail(0, 1).load());
}

/// The same while the receiver, which has just emptied that slot, moves its hint beyond it.
TEST(Era, aSenderThatReadTheHintLongAgoIsHeardWhileItMoves) {
    const Plan plan = alone();
    World world(plan);
    u32 between = 0;
    bool through = false;
    for (u64 when = 1; !through; ++when) {
        world.begin();
        world.act_as(0, 0);
        ASSERT_EQ(world.client(0, 0).send(1, 0), Status::ok);
        u64 accesses = 0;
        bool sent = false;
        const auto usual = world.memory.before;
        world.memory.before = [&](Access, const Word&) {
            const bool is_empty = world.t.message(0, 1, 0).load() == Cell::empty().bits;
            if (sent || ++accesses != when || !is_empty) return;
            sent = true;
            world.t.tail(0, 1).store(0);
            world.act_as(0, 0);
            EXPECT_EQ(world.client(0, 0).send(1, 0), Status::ok);
            world.act_as(1, 0);
        };
        world.act_as(1, 0);
        ASSERT_EQ(world.client(1, 0).receive(0, 0), Status::ok);
        world.memory.before = usual;
        between += sent;
        through = accesses < when;
        world.check();
        ASSERT_EQ(world.failure(), "") << when;
    }
    EXPECT_GT(between, 3U);
}

/// Who looks meanwhile finds it: the hint goes as far as the oldest message that nobody has taken, whichever was taken.
TEST(Era, theHintPassesNoMessage) {
    for (const u64 taken : {0, 1}) {
        const Plan plan = alone();
        World world(plan);
        world.begin();
        world.act_as(0, 0);
        for (int i = 0; i < 2; ++i) ASSERT_EQ(world.client(0, 0).send(1, 0), Status::ok);
        world.act_as(1, 0);
        Lane<SimMemory> receiver(world.memory, world.t, 1, 0, world.standing(1));
        ASSERT_EQ(
            take_message(receiver, {.from = 0, .position = taken, .object = 0, .envelope = {}}, 0),
            Status::ok);
        EXPECT_EQ(world.t.head(0, 1).load(), taken == 0 ? 1U : 0U);
        EXPECT_EQ(world.t.tail(0, 1).load(), 2U);
    }
}

/// Two lanes of a node send at once: between any two accesses of the one the other sends a whole message.
TEST(Era, aSendInTheMiddleOfAnotherIsHeard) {
    const Plan plan = alone();
    World world(plan);
    bool sent_between = true;
    for (u64 when = 1; sent_between; ++when) {
        sent_between = false;
        world.begin();
        const auto usual = world.memory.before;
        u64 accesses = 0;
        world.memory.before = [&](Access, const Word&) {
            if (sent_between || ++accesses != when) return;
            sent_between = true;
            world.act_as(0, 1);
            EXPECT_EQ(world.client(0, 1).send(1, 0), Status::ok);
            world.act_as(0, 0);
        };
        world.act_as(0, 0);
        EXPECT_EQ(world.client(0, 0).send(1, 0), Status::ok);
        world.memory.before = usual;
        world.check();
        ASSERT_EQ(world.failure(), "") << when;
    }
}

/// Two lanes of one client see the same message; one takes it, and before the other claims it the
/// slot has a message of the same object again, for another client or by another one.
TEST(Era, aSlotThatIsUsedAgainBetweenLookAndClaimIsAnotherMessage) {
    const Plan plan = alone({.nodes = 2, .lanes = 2, .refs = 4, .objects = 4, .slots = 1});
    constexpr Envelope OURS{.to = 11, .from = 1};
    for (const Envelope next : {Envelope{.to = 12, .from = 1}, Envelope{.to = 11, .from = 2}}) {
        for (const bool into_reference : {true, false}) {
            World world(plan);
            world.begin();
            world.act_as(0, 0);
            Lane<SimMemory> sender(world.memory, world.t, 0, 0, world.standing(0));
            ASSERT_EQ(send(sender, 1, 0, OURS), Status::ok);
            const auto look = [&] {
                RemoteMessage seen{};
                each_message(world.memory, world.t, 0, 1, true, [&](const RemoteMessage& w) {
                    seen = w;
                    return true;
                });
                return seen;
            };
            world.act_as(1, 0);
            const RemoteMessage seen = look();
            ASSERT_EQ(seen.envelope.to, OURS.to);
            Lane<SimMemory> first(world.memory, world.t, 1, 0, world.standing(1));
            Lane<SimMemory> second(world.memory, world.t, 1, 1, world.standing(1));
            ASSERT_EQ(take_message(first, seen, 0), Status::ok);
            world.act_as(0, 0);
            ASSERT_EQ(send(sender, 1, 0, next), Status::ok);
            const u64 cell = world.t.message(0, 1, 0).load();
            const u32 count = count_of(world, 0);
            world.act_as(1, 1);
            EXPECT_EQ(into_reference ? take_message(second, seen, 1) : drop_message(second, seen),
                      Status::gone);
            EXPECT_EQ(world.t.message(0, 1, 0).load(), cell);
            EXPECT_EQ(world.t.ref(1, 1).load(), Cell::empty().bits);
            EXPECT_EQ(count_of(world, 0), count);
            const RemoteMessage other = look();
            EXPECT_EQ(other.envelope.to, next.to);
            EXPECT_EQ(other.envelope.from, next.from);
            EXPECT_EQ(take_message(second, other, 1), Status::ok);
        }
    }
}

}  // namespace
}  // namespace aep::era::test
