// Purpose: every operation, ended at every access, with every subset of its unflushed lines lost;
//          then recovery, itself ended at every access and done again by another one.
// Who calls it: ctest.
// Crash rule: this is the test of the crash rules.
#include <gtest/gtest.h>

#include "tests/era/dying.hpp"

namespace aep::era::test {
namespace {

struct Operation {
    const char* name;
    void (*setup)(World&);
    void (*run)(Client&);  // by node 0

    friend void PrintTo(const Operation& operation, std::ostream* out) { *out << operation.name; }
};

/// Nodes 0 and 1 hold object 0, node 0 alone object 1; a message waits from 1 for 0; chunk 1 is
/// 0's.
void usual(World& w) {
    w.act_as(0, 0);
    w.client(0, 0).create(0, 0);
    w.client(0, 0).create(1, 1);
    w.client(0, 0).claim(1);
    w.act_as(1, 0);
    w.client(1, 0).attach(0, 0);
    w.client(1, 0).send(0, 0);
}

void at_the_last_era(World& w) {
    usual(w);
    w.t.lane(w.t.writer(0, 0)).redo.head = RedoHead::make(RedoKind::none, MAX_ERA - 1).bits;
    w.act_as(0, 0);
    w.client(0, 0).attach(2, 0);
}

const Operation OPERATIONS[] = {
    {"create", usual, [](Client& c) { c.create(2, 2); }},
    {"attach", usual, [](Client& c) { c.attach(2, 0); }},
    {"release", usual, [](Client& c) { c.release(0); }},
    {"last release", usual, [](Client& c) { c.release(1); }},
    {"send", usual, [](Client& c) { c.send(1, 0); }},
    {"receive", usual, [](Client& c) { c.receive(1, 2); }},
    {"claim chunk", usual, [](Client& c) { c.claim(0); }},
    {"return chunk", usual, [](Client& c) { c.give_back(1); }},
    {"first era", at_the_last_era, [](Client& c) { c.release(0); }},
};

class EveryAccess : public testing::TestWithParam<Operation> {
  protected:
    EveryAccess() {
        plan.name = GetParam().name;
        plan.shape = {.nodes = 3, .lanes = 2, .refs = 3, .objects = 3, .slots = 2};
        plan.setup = GetParam().setup;
        plan.recoverers = 0;  // the test says who recovers
    }
    /// Node 0 dies at its access `last`. False: the operation was through before.
    bool die(World& world, u64 last, u64 evicted = NEVER) {
        world.begin();
        return dies_at(world, 0, last, evicted, [&] {
            Client client(world, 0, 0);
            GetParam().run(client);
        });
    }
    Plan plan;
    u64 cases = 0;
};

TEST_P(EveryAccess, thenRecovery) {
    World world(plan);
    bool died = true;
    for (u64 last = 1; died; ++last) {
        for (u64 evicted = 1; evicted <= last; ++evicted) do {
                died = die(world, last, evicted);
                world.crash(0);
                world.recover_dead(1);
                world.check();
                ++cases;
                ASSERT_EQ(world.failure(), "") << "access " << last << " evicted " << evicted;
            } while (world.choices().next());
    }
    std::printf("%s: %lu cases\n", plan.name, cases);
}

TEST_P(EveryAccess, thenRecoveryThatDiesAnywhereToo) {
    World world(plan);
    bool died = true;
    for (u64 last = 1; died; ++last) {
        bool recoverer_died = true;
        for (u64 second = 1; recoverer_died; ++second) do {
                died = die(world, last);
                world.crash(0);
                recoverer_died = dies_at(world, 1, second, NEVER, [&] { world.recover_dead(1); });
                world.crash(1);
                world.recover_dead(2);
                world.check();
                ++cases;
                ASSERT_EQ(world.failure(), "") << "access " << last << " and " << second;
            } while (world.choices().next());
    }
    std::printf("%s: %lu cases\n", plan.name, cases);
}

/// A lane of node 1, then two lanes of node 0, each stop anywhere in an attach to the same object;
/// then both machines die. What the second lane found told already must not be lost with the first.
TEST(ThreeLanes, stopAnywhereAndBothMachinesDie) {
    Plan plan;
    plan.name = "three lanes";
    plan.shape = {.nodes = 3, .lanes = 2, .refs = 4, .objects = 3, .slots = 2};
    plan.setup = usual;
    plan.recoverers = 0;
    World world(plan);
    u64 cases = 0;
    const auto stops = [&world](u32 host, u32 lane, u32 ref, u64 last) {
        return dies_at(world, host, last, NEVER, [&] {
            world.act_as(host, lane);
            world.client(host, lane).attach(ref, 0);
        });
    };
    bool first = true;
    for (u64 i = 1; first; ++i) {
        bool second = true;
        for (u64 j = 1; second; ++j) {
            bool third = true;
            for (u64 k = 1; third; ++k) {
                world.begin();
                first = stops(1, 0, 1, i);
                second = stops(0, 0, 2, j);
                third = stops(0, 1, 3, k);
                world.crash(0);
                world.crash(1);
                world.recover_dead(2);
                world.check();
                ++cases;
                ASSERT_EQ(world.failure(), "") << i << " " << j << " " << k;
            }
        }
    }
    std::printf("%s: %lu cases\n", plan.name, cases);
}

INSTANTIATE_TEST_SUITE_P(Operations, EveryAccess, testing::ValuesIn(OPERATIONS),
                         [](const auto& operation) {
                             std::string name = operation.param.name;
                             for (char& c : name) c = c == ' ' ? '_' : c;
                             return name;
                         });

}  // namespace
}  // namespace aep::era::test
