// Purpose: clients of one context as threads: they send, receive, refer to, drop and share groups at once, die and come
//          again, while somebody walks all that is shared; at the end nothing is left.
// Who calls it: ctest, under ThreadSanitizer and AddressSanitizer.
// Crash rule: see actor.hpp.
#include <barrier>
#include <thread>

#include "tests/hosted/actor.hpp"

namespace aep::test {
namespace {

TEST(HostedSharing, RandomLivesLeaveNothing) {
    constexpr u32 CLIENTS = 4, LIVES = 3;
    constexpr int STEPS = 10000 / SLOWNESS;
    for (u64 seed = 1; seed <= 3; ++seed) {
        World world({.clients = CLIENTS, .records = 48});
        Roster roster(1, CLIENTS);
        std::atomic<u64> sent{0}, received{0};
        std::atomic<u32> living{CLIENTS};
        std::barrier together(CLIENTS);
        std::vector<std::thread> threads;
        for (u32 i = 1; i <= CLIENTS; ++i) {
            threads.emplace_back([&, i] {
                const Inside here(world, 0);
                together.arrive_and_wait();
                for (u32 life = 0; life < LIVES; ++life) {
                    Actor actor(i, roster, 0, seed * 1000 + i * 10 + life);
                    actor.live(STEPS);
                    sent += actor.sent();
                    received += actor.received();
                }
                --living;
            });
        }
        std::thread walker([&] {
            const Inside here(world, 0);
            while (living != 0) {
                const std::string wrong = walk();
                EXPECT_TRUE(wrong.empty() || wrong.find("quiet moment") != std::string::npos)
                    << wrong;
            }
        });
        for (std::thread& t : threads) t.join();
        walker.join();
        const Inside here(world, 0);
        EXPECT_EQ(remains(), "") << "seed " << seed;
        EXPECT_GT(received.load(), 0u);
        EXPECT_EQ(count_shares().sent, sent.load());
        EXPECT_EQ(count_shares().received, received.load());
    }
}

}  // namespace
}  // namespace aep::test
