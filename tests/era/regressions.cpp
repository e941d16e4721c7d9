// Purpose: single dangers by name, each of which a reference count shared by machines that die has
//          fallen for somewhere.
// Who calls it: ctest.
// Crash rule: this is the test of the crash rules.
#include <gtest/gtest.h>

#include "tests/era/dying.hpp"
#include "tests/era/plans.hpp"

namespace aep::era::test {
namespace {

TEST(Era, senderKilledAfterItsMessageWasConsumedAndDropped) {
    const Plan plan = alone();
    World world(plan);
    u32 consumed = 0;
    bool died = true;
    for (u64 last = 1; died; ++last) {
        world.begin();
        died = dies_at(world, 0, last, NEVER, [&] { world.client(0, 0).send(1, 0); });
        world.act_as(1, 0);
        Client receiver = world.client(1, 0);
        if (receiver.receive(0, 0) == Status::ok) {
            consumed += died;
            receiver.release(0);
        }
        world.crash(0);  // its record may still say that the message is to be written
        world.act_as(1, 0);
        if (receiver.receive(0, 0) == Status::ok)
            receiver.release(0);  // and now it was, for the first time
        world.check();
        ASSERT_EQ(world.failure(), "") << last;
        ASSERT_EQ(count_of(world, 0), 0U) << last;
    }
    EXPECT_GT(consumed, 0U);
}

TEST(Era, lastReleaseKilledAnywhereFreesTheObject) {
    const Plan plan = alone();
    World world(plan);
    bool died = true;
    for (u64 last = 1; died; ++last) {
        world.begin();
        died = dies_at(world, 0, last, NEVER, [&] { world.client(0, 0).release(0); });
        world.crash(0);
        ASSERT_EQ(world.t.count(0).load(), FREE_OBJECT.bits) << last;
        world.check();
        ASSERT_EQ(world.failure(), "") << last;
    }
}

TEST(Era, twoHoldersDropTheSameRootAtOnce) { EXPECT_EQ(explored(last_releases()), ""); }

TEST(Era, recoveryLeavesTheLivingAlone) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    for (u32 host = 1; host < 3; ++host) {
        world.act_as(host, 0);
        world.client(host, 0).attach(host, 0);
        world.client(host, 0).create(0, host);
        world.client(host, 0).send(3 - host, host);
        world.client(host, 0).claim(host - 1);
    }
    std::vector<u64> before;
    const auto look = [&world] {
        std::vector<u64> words;
        for (u32 host = 1; host < 3; ++host) {
            words.push_back(world.t.node(host));
            words.push_back(world.t.chunks[host - 1]);
            for (u32 i = 0; i < 4; ++i) words.push_back(world.t.ref(host, i));
            for (u32 i = 0; i < 2; ++i) words.push_back(world.t.message(host, 3 - host, i));
            words.push_back(world.t.count(host));
        }
        return words;
    };
    before = look();
    world.crash(0);
    EXPECT_EQ(look(), before);
    EXPECT_EQ(count_of(world, 0), 2U);
    world.check();
    EXPECT_EQ(world.failure(), "");
}

TEST(Era, seventyThousandReferences) {
    constexpr u32 MANY = 70'000;
    const Plan plan = alone({.nodes = 3, .lanes = 1, .refs = MANY / 2, .objects = 1, .slots = 1});
    World world(plan);
    world.begin();
    for (u32 i = 0; i < MANY; ++i) {
        const u32 host = i % 2;
        world.act_as(host, 0);
        if (i != 0) ASSERT_EQ(world.client(host, 0).attach(i / 2, 0), Status::ok);
    }
    EXPECT_EQ(count_of(world, 0), MANY);
    world.crash(0);
    EXPECT_EQ(count_of(world, 0), MANY / 2);
    world.crash(1);
    EXPECT_EQ(world.t.count(0).load(), FREE_OBJECT.bits);
    world.check();
    EXPECT_EQ(world.failure(), "");
}

TEST(Era, countAtItsLargestRefusesMore) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    const u64 full = CountWord::make(NOBODY, 0, MAX_COUNT).bits;
    world.t.count(0) = full;
    Client client = world.client(0, 0);
    EXPECT_EQ(client.attach(1, 0), Status::too_many);
    EXPECT_EQ(client.send(1, 0), Status::too_many);
    EXPECT_EQ(world.t.count(0).load(), full);
    EXPECT_EQ(world.t.ref(0, 1).load(), Cell::empty().bits);
    EXPECT_EQ(world.t.message(0, 1, 0).load(), Cell::empty().bits);
}

TEST(Era, erasBeginAnewInTheNextEpoch) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    LaneEntry& lane = world.t.lane(world.t.writer(0, 0));
    lane.redo.head = RedoHead::make(RedoKind::none, MAX_ERA - 2).bits;
    Client client = world.client(0, 0);
    EXPECT_EQ(client.attach(1, 0), Status::ok);
    EXPECT_EQ(client.attach(2, 0), Status::ok);
    EXPECT_EQ(CountWord{world.t.count(0)}.era(), MAX_ERA);
    EXPECT_EQ(lane.epoch.load(), 0U);
    EXPECT_EQ(client.create(3, 1), Status::ok);
    EXPECT_EQ(lane.epoch.load(), 1U);
    EXPECT_EQ(CountWord{world.t.count(0)}.writer(), NOBODY);  // its old era must not be read as new
    EXPECT_EQ(count_of(world, 0), 3U);
    EXPECT_EQ(CountWord{world.t.count(1)}.era(), 1U);
    world.act_as(1, 0);
    EXPECT_EQ(world.client(1, 0).attach(0, 1), Status::ok);
    EXPECT_EQ(world.t.seen(1, world.t.writer(0, 0)).load(), full_era(1, 1));
    world.check();
    EXPECT_EQ(world.failure(), "");
}

TEST(Era, whoWasDeclaredDeadIsFenced) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    const auto refused = [&world](Client& client) {
        const std::vector<u8> before(world.t.base, world.t.base + world.t.at.bytes);
        EXPECT_EQ(client.create(1, 1), Status::fenced);
        EXPECT_EQ(client.attach(1, 0), Status::fenced);
        EXPECT_EQ(client.release(0), Status::fenced);
        EXPECT_EQ(client.send(1, 0), Status::fenced);
        EXPECT_EQ(client.receive(1, 1), Status::fenced);
        EXPECT_EQ(client.claim(0), Status::fenced);
        EXPECT_EQ(client.give_back(0), Status::fenced);
        EXPECT_EQ(before, std::vector<u8>(world.t.base, world.t.base + world.t.at.bytes));
    };
    Client slow = world.client(0, 0);
    world.crash(0);  // declared dead, but still there
    world.act_as(0, 0);
    refused(slow);
    const NodeWord word = join(world.memory, world.t, 0);
    EXPECT_EQ(word.generation(), 2U);
    refused(slow);  // of the former generation
    Lane<SimMemory> fresh(world.memory, world.t, 0, 0, word);
    EXPECT_EQ(fresh.create(0, 0), Status::ok);
}

/// Declares node 0 dead before each access of each operation, and recovers it at once, or when the operation is
/// through. Returns how often it was fenced. In every case what it did and did not do is in counts and references alike.
u32 declare_dead_anywhere(bool at_once) {
    using Operation = Status (*)(Client&);
    const Operation operations[] = {
        [](Client& c) { return c.create(1, 1); }, [](Client& c) { return c.attach(1, 0); },
        [](Client& c) { return c.send(1, 0); },   [](Client& c) { return c.receive(2, 1); },
        [](Client& c) { return c.release(0); },   [](Client& c) { return c.claim(0); },
        [](Client& c) { return c.give_back(1); },
    };
    Plan plan = alone();
    plan.setup = [](World& w) {
        all_hold_one(w);
        w.act_as(0, 0);
        w.client(0, 0).claim(1);
        w.act_as(2, 0);
        w.client(2, 0).send(0, 0);
    };
    plan.recoverers = at_once ? 1 : 0;
    World world(plan);
    u32 fenced = 0;
    for (const Operation operation : operations) {
        bool declared = true;
        for (u64 when = 1; declared; ++when) {
            declared = false;
            world.begin();
            const auto usual = world.memory.before;
            u64 accesses = 0;
            world.memory.before = [&](Access, const Word&) {
                if (++accesses != when || declared) return;
                declared = true;
                world.declare_dead(0);
                if (!at_once) {
                    dies_at(world, 1, TAKEN, NEVER, [&] { world.recover_dead(1); });
                    world.declare_dead(1);
                }
                world.act_as(0, 0);
            };
            world.act_as(0, 0);
            Client slow = world.client(0, 0);
            const Status status = operation(slow);
            world.memory.before = usual;
            if (!declared) break;  // it was through before
            fenced += status == Status::fenced;
            world.recover_dead(2);
            // Of counts it may have been beyond its last look at the node's word: whoever recovers a node has cut it off
            // before.
            if (!at_once || status != Status::ok) world.check_objects();
            EXPECT_EQ(world.failure(), "") << when;
            EXPECT_EQ(world.t.chunks[0].load(), FREE_CHUNK.bits) << when;
            EXPECT_EQ(world.t.chunks[1].load(), FREE_CHUNK.bits) << when;
        }
    }
    return fenced;
}

TEST(Era, whoIsDeclaredDeadInTheMiddleOfAnOperationIsFenced) {
    EXPECT_GT(declare_dead_anywhere(true), 20U);
    EXPECT_GT(declare_dead_anywhere(false), 20U);
}

/// Nobody has to say again that node 0 is dead.
TEST(Era, whoRecoversARecovererFinishesItsRecovery) {
    Plan plan = alone();
    plan.recoverers = 0;
    World world(plan);
    bool died = true;
    for (u64 last = TAKEN; died; ++last) {
        world.begin();
        world.crash(0);
        died = dies_at(world, 1, last, NEVER, [&] { world.recover_dead(1); });
        world.crash(1);
        world.act_as(2, 0);
        Lane<SimMemory> mine(world.memory, world.t, 2, 0, world.standing(2));
        Disposal disposal;
        disposal.reclaim = [](void*, u32) {};
        disposal.clean = [](void*, u32) { return true; };
        EXPECT_EQ(Recovery(mine, disposal).recover(1), Status::ok);
        world.check();
        ASSERT_EQ(world.failure(), "") << last;
    }
}

TEST(Era, theRecovererKeepsChunksWithLivingObjects) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    world.keep_chunks = true;
    world.act_as(0, 0);
    world.client(0, 0).claim(1);
    world.crash(0);
    EXPECT_EQ(world.t.chunks[0].load(), FREE_CHUNK.bits);
    EXPECT_EQ(world.t.chunks[1].load(), ChunkWord::owned(1, world.standing(1).generation()).bits);
    world.crash(1);
    EXPECT_EQ(ChunkWord{world.t.chunks[1].load()}.node(), 2U);
}

TEST(Era, aDeadNodeRecoversNobody) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    Lane<SimMemory> slow(world.memory, world.t, 0, 0, world.standing(0));
    world.crash(0);
    const Disposal disposal;
    EXPECT_EQ(Recovery(slow, disposal).recover(1), Status::fenced);
    EXPECT_EQ(world.t.node(1).load(), world.standing(1).bits);
    Lane<SimMemory> living(world.memory, world.t, 1, 0, world.standing(1));
    EXPECT_EQ(Recovery(living, disposal).recover(0), Status::no_node);  // done already
    EXPECT_EQ(Recovery(living, disposal).recover(1), Status::invalid);
    EXPECT_EQ(Recovery(living, disposal).recover(9), Status::invalid);
}

TEST(Era, misuseChangesNothing) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    Client client = world.client(0, 0);
    EXPECT_EQ(client.attach(1, 1), Status::gone);  // no such object
    EXPECT_EQ(client.create(1, 0), Status::exists);
    EXPECT_EQ(client.attach(0, 0), Status::busy);  // reference in use
    EXPECT_EQ(client.attach(4, 0), Status::invalid);
    EXPECT_EQ(client.attach(1, 4), Status::invalid);
    EXPECT_EQ(client.release(4), Status::invalid);
    EXPECT_EQ(client.release(1), Status::busy);     // not held
    EXPECT_EQ(client.send(0, 0), Status::invalid);  // to itself
    EXPECT_EQ(client.send(3, 0), Status::invalid);
    EXPECT_EQ(client.receive(3, 1), Status::invalid);
    EXPECT_EQ(client.receive(1, 0), Status::busy);
    EXPECT_EQ(client.receive(1, 1), Status::empty);
    EXPECT_EQ(client.give_back(0), Status::busy);
    world.check();
    EXPECT_EQ(world.failure(), "");
}

/// Who is at it and lives has not finished.
TEST(Era, whatSomebodyRecoversIsLeftToHim) {
    Plan plan = alone();
    plan.recoverers = 0;
    World world(plan);
    world.begin();
    world.crash(0);
    ASSERT_TRUE(dies_at(world, 1, TAKEN, NEVER, [&] { world.recover_dead(1); }));
    const u64 taken = world.t.node(0);
    ASSERT_EQ(world.t.node_of(NodeWord{taken}.by()), 1U);
    world.act_as(2, 0);
    Lane<SimMemory> mine(world.memory, world.t, 2, 0, world.standing(2));
    const Disposal disposal;
    EXPECT_EQ(Recovery(mine, disposal).recover(0), Status::busy);
    EXPECT_EQ(world.t.node(0).load(), taken);
    world.recover_dead(1);
    world.check();
    EXPECT_EQ(world.failure(), "");
}

/// Of each object whose last reference a dead node had, once.
TEST(Era, theRecovererFreesTheMemoryOfWhatNobodyHolds) {
    Plan plan = alone();
    plan.recoverers = 0;
    World world(plan);
    world.begin();
    world.client(0, 0).create(1, 1);
    world.client(0, 0).create(2, 2);
    world.act_as(1, 0);
    world.client(1, 0).attach(0, 1);
    world.crash(0);
    world.act_as(2, 0);
    Lane<SimMemory> mine(world.memory, world.t, 2, 0, world.standing(2));
    std::vector<u32> freed;
    Disposal disposal;
    disposal.context = &freed;
    disposal.reclaim = [](void* all, u32 object) {
        static_cast<std::vector<u32>*>(all)->push_back(object);
    };
    disposal.clean = [](void*, u32) { return true; };
    EXPECT_EQ(Recovery(mine, disposal).recover(0), Status::ok);
    EXPECT_EQ(freed, (std::vector<u32>{0, 2}));
}

/// Else nobody would look for what it wrote.
TEST(Era, thatANodeHasJoinedIsNotLostWithItsCache) {
    const Plan plan = alone();
    World world(plan);
    world.begin();
    world.crash(1);
    world.act_as(1, 0);
    const NodeWord again = join(world.memory, world.t, 1);
    ASSERT_NE(again.bits, 0U);
    for (const usize line : world.memory.dirty(1)) world.memory.settle(line, true);
    EXPECT_EQ(world.t.node(1).load(), again.bits);
}

}  // namespace
}  // namespace aep::era::test
