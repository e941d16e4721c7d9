// Purpose: the plans that the explorer goes through: small sets of tasks, each around one danger.
// Who calls it: tests/era/model_*.cpp.
// Crash rule: no state.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "tests/era/world.hpp"

namespace aep::era::test {

/// Every node of the plan holds object 0 as its reference 0.
inline void all_hold_one(World& world) {
    for (u32 host = 0; host < world.t.shape.nodes; ++host) {
        world.act_as(host, 0);
        Client client = world.client(host, 0);
        host == 0 ? client.create(0, 0) : client.attach(0, 0);
    }
}

/// Nodes 0 and 1 hold object 0 as their reference 0, others nothing.
inline void two_hold_one(World& world) {
    world.act_as(0, 0);
    world.client(0, 0).create(0, 0);
    world.act_as(1, 0);
    world.client(1, 0).attach(0, 0);
}

/// Only node 0 holds object 0.
inline void first_holds_one(World& world) {
    world.act_as(0, 0);
    world.client(0, 0).create(0, 0);
}

/// Nobody does anything but what the test says; node 0 alone holds object 0.
inline Plan alone(Shape shape = {.nodes = 3, .lanes = 2, .refs = 4, .objects = 4, .slots = 2}) {
    Plan plan;
    plan.name = "regression";
    plan.shape = shape;
    plan.setup = first_holds_one;
    return plan;
}

inline u32 count_of(const World& world, u32 object) {
    return CountWord{world.t.count(object).load()}.count();
}

/// One node adds a reference while another drops its own.
inline Plan attach_and_release() {
    Plan plan;
    plan.name = "attach and release";
    plan.setup = all_hold_one;
    plan.tasks = {{0, 0, [](Client& c) { c.attach(1, 0); }},
                  {1, 0, [](Client& c) { c.release(0); }}};
    return plan;
}

/// Both drop the last references at once.
inline Plan last_releases() {
    Plan plan;
    plan.name = "last releases";
    plan.setup = all_hold_one;
    plan.tasks = {{0, 0, [](Client& c) { c.release(0); }}, {1, 0, [](Client& c) { c.release(0); }}};
    return plan;
}

/// A message, both ends dropping what they have as soon as they can.
inline Plan message() {
    Plan plan;
    plan.name = "message";
    plan.setup = first_holds_one;
    plan.tasks = {{0, 0,
                   [](Client& c) {
                       c.send(1, 0);
                       c.release(0);
                   }},
                  {1, 0, [](Client& c) {
                       if (c.receive(0, 0) == Status::ok) c.release(0);
                   }}};
    return plan;
}

/// Two lanes of one node, and another node, on the same object.
inline Plan two_lanes() {
    Plan plan;
    plan.name = "two lanes";
    plan.setup = all_hold_one;
    plan.tasks = {{0, 0, [](Client& c) { c.attach(1, 0); }},
                  {0, 1, [](Client& c) { c.release(0); }}};
    return plan;
}

/// The last reference goes, and another node makes the object anew.
inline Plan create_again() {
    Plan plan;
    plan.name = "create again";
    plan.setup = first_holds_one;
    plan.tasks = {{0, 0, [](Client& c) { c.release(0); }},
                  {1, 0, [](Client& c) { c.create(0, 0); }}};
    return plan;
}

/// A lane whose eras end begins a new epoch while another node reads its word.
inline Plan eras_end() {
    Plan plan;
    plan.name = "eras end";
    plan.setup = [](World& world) {
        world.t.lane(world.t.writer(0, 0)).redo.head =
            RedoHead::make(RedoKind::none, MAX_ERA - 1).bits;
        all_hold_one(world);
        world.act_as(0, 0);
        world.t.lane(world.t.writer(0, 0)).redo.head =
            RedoHead::make(RedoKind::none, MAX_ERA - 1).bits;
        world.client(0, 0).attach(1, 0);  // takes the last era, and the count word names it
    };
    plan.tasks = {{0, 0, [](Client& c) { c.release(1); }},
                  {1, 0, [](Client& c) { c.attach(1, 0); }}};
    return plan;
}

/// Two clients of a node drop the same reference: only one of them does.
inline Plan same_reference() {
    Plan plan;
    plan.name = "same reference";
    plan.setup = first_holds_one;
    plan.tasks = {{0, 0, [](Client& c) { c.release(0); }}, {0, 1, [](Client& c) { c.release(0); }}};
    return plan;
}

/// Two lanes send into a ring with room for one message.
inline Plan full_ring() {
    Plan plan;
    plan.name = "full ring";
    plan.shape.slots = 1;
    plan.setup = first_holds_one;
    plan.tasks = {{0, 0, [](Client& c) { c.send(1, 0); }}, {0, 1, [](Client& c) { c.send(1, 0); }}};
    return plan;
}

/// The receiver dies while a message is under way; its recovery and the sender both want it back.
inline Plan dead_receiver() {
    Plan plan;
    plan.name = "dead receiver";
    plan.shape.slots = 1;
    plan.preemptions = 3;
    plan.setup = first_holds_one;
    plan.tasks = {{0, 0, [](Client& c) { c.send(1, 0); }}};
    return plan;
}

/// Two clients of a node want the same message.
inline Plan two_receivers() {
    Plan plan;
    plan.name = "two receivers";
    plan.setup = [](World& world) {
        first_holds_one(world);
        world.client(0, 0).send(1, 0);
    };
    plan.tasks = {{1, 0, [](Client& c) { c.receive(0, 0); }},
                  {1, 1, [](Client& c) { c.receive(0, 1); }}};
    return plan;
}

/// Two nodes want the same chunk; one gives another back.
inline Plan chunks() {
    Plan plan;
    plan.name = "chunks";
    plan.setup = [](World& world) { world.client(0, 0).claim(1); };
    plan.tasks = {{0, 0,
                   [](Client& c) {
                       c.claim(0);
                       c.give_back(1);
                   }},
                  {1, 0, [](Client& c) {
                       c.claim(0);
                       c.claim(1);
                   }}};
    return plan;
}

inline std::vector<Plan> two_node_plans() {
    return {attach_and_release(), last_releases(), message(),        two_lanes(),
            create_again(),       eras_end(),      same_reference(), full_ring(),
            two_receivers(),      dead_receiver(), chunks()};
}

/// The plan with a third node, and two machines that may die: the second one while it recovers the
/// first, too.
inline Plan with_third_node(Plan plan, u32 preemptions = 1) {
    plan.shape.nodes = 3;
    plan.preemptions = preemptions;
    plan.crashes = 2;
    return plan;
}

/// The plan with both survivors recovering a dead node at once.
inline Plan with_two_recoverers(Plan plan) {
    plan = with_third_node(std::move(plan), 2);
    plan.crashes = 1;
    plan.recoverers = 2;
    return plan;
}

/// The plan among four nodes, of which two die; both survivors recover both of them at once.
inline Plan with_two_dead_and_two_recoverers(Plan plan) {
    plan = with_two_recoverers(std::move(plan));
    plan.shape.nodes = 4;
    plan.crashes = 2;
    return plan;
}

/// Messages lie between all nodes, and nobody is at work with them.
inline Plan letters_everywhere() {
    Plan plan;
    plan.name = "letters everywhere";
    plan.shape.slots = 1;
    plan.setup = [](World& world) {
        const u32 nodes = world.t.shape.nodes;
        all_hold_one(world);
        for (u32 from = 0; from < nodes; ++from) {
            for (u32 to = 0; to < nodes; ++to) {
                world.act_as(from, 0);
                if (to != from) world.client(from, 0).send(to, 0);
            }
        }
        world.act_as(0, 0);
        world.client(0, 0).claim(0);
        world.act_as(1, 0);
        world.client(1, 0).claim(1);
    };
    plan.tasks = {{0, 0, [](Client& c) { c.release(0); }}, {1, 0, [](Client& c) { c.release(0); }}};
    return plan;
}

/// Three nodes drop the last references at once.
inline Plan three_last_releases() {
    Plan plan = last_releases();
    plan.shape.nodes = 3;
    plan.preemptions = 1;
    plan.tasks.push_back({2, 0, [](Client& c) { c.release(0); }});
    return plan;
}

/// Preemptions beyond the usual bounds, and how many times as many random executions: by hand.
inline u32 deeper() {
    const char* wanted = std::getenv("AEP_TEST_ERA_DEEPER");
    return wanted == nullptr ? 0 : static_cast<u32>(std::atoi(wanted));
}

/// The name as GoogleTest wants it.
inline std::string test_name(const Plan& plan) {
    std::string name = plan.name;
    for (char& c : name) c = c == ' ' ? '_' : c;
    return name;
}

/// Explores a plan and says how far.
inline std::string explored(Plan plan) {
    plan.preemptions += deeper();
    World world(plan);
    const Result result = world.explore();
    std::printf(
        "%s: %lu executions, %lu accesses (all with at most %u preemptions and %u deaths)\n",
        plan.name, result.executions, result.accesses, plan.preemptions, plan.crashes);
    return result.failure;
}

/// Runs a plan `executions` times at random, with any number of preemptions and lines that reach
/// memory at any time, and says how far. Another seed a plan, and a caller.
inline std::string sampled(Plan plan, u64 seed, u64 executions) {
    plan.preemptions = 1000;
    plan.evictions = true;
    World world(plan);
    constexpr u32 CALM = 12;
    const Result result = world.sample(std::hash<std::string>()(plan.name) + seed,
                                       executions * (1 + 30 * deeper()), CALM);
    std::printf("%s: %lu random executions, %lu accesses\n", plan.name, result.executions,
                result.accesses);
    return result.failure;
}

}  // namespace aep::era::test
