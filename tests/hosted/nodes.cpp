// Purpose: the same between nodes: contexts on one pool, whose clients send to each other's, while their hosts tidy up.
// Who calls it: ctest, under ThreadSanitizer and AddressSanitizer.
// Crash rule: see actor.hpp.
#include <barrier>
#include <thread>

#include "tests/hosted/actor.hpp"

namespace aep::test {
namespace {

TEST(HostedNodes, RandomLivesLeaveNothing) {
    constexpr u32 NODES = 2, CLIENTS = 2, LIVES = 2;
    constexpr int STEPS = 20000 / SLOWNESS;
    // On a loaded machine all that is received of one seed may come from the own node.
    u64 received_in_all = 0, came_in = 0;
    for (u64 seed = 1; seed <= 3; ++seed) {
        World world({.nodes = NODES, .clients = CLIENTS});
        Roster roster(NODES, CLIENTS);
        std::atomic<u32> living{NODES * CLIENTS};
        std::atomic<u64> received{0};
        std::barrier together(NODES * CLIENTS);
        std::vector<std::thread> threads;
        for (u32 node = 0; node < NODES; ++node) {
            for (u32 i = 1; i <= CLIENTS; ++i) {
                threads.emplace_back([&, node, i] {
                    const Inside here(world, node);
                    together.arrive_and_wait();
                    for (u32 life = 0; life < LIVES; ++life) {
                        Actor actor(i, roster, node, seed * 1000 + node * 100 + i * 10 + life);
                        actor.live(STEPS);
                        received += actor.received();
                    }
                    --living;
                });
            }
            threads.emplace_back([&, node] {
                const Inside here(world, node);
                while (living != 0) tidy();
            });
        }
        for (std::thread& t : threads) t.join();
        bool lingers = true;
        for (int i = 0; lingers && i < 100; ++i) {
            lingers = false;
            for (u32 node = 0; node < NODES; ++node) {
                const Inside here(world, node);
                lingers |= tidy();
            }
        }
        EXPECT_FALSE(lingers);
        for (u32 node = 0; node < NODES; ++node) {
            const Inside here(world, node);
            EXPECT_EQ(remains(), "") << "seed " << seed << ", node " << node;
            EXPECT_EQ(pool_remains(true), "") << "seed " << seed;
            came_in += sharing().came_in;
        }
        received_in_all += received.load();
    }
    EXPECT_GT(came_in, 0u);
    EXPECT_GT(received_in_all, came_in);
}

}  // namespace
}  // namespace aep::test
