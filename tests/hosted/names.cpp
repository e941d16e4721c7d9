// Purpose: names of clients, looked up without the lock while they change: nobody is found by a name that it never had,
//          and somebody who has one all the time is found.
// Who calls it: ctest, under ThreadSanitizer and AddressSanitizer.
// Crash rule: see actor.hpp.
#include <thread>

#include "dsm-core/sharing/directory.hpp"
#include "tests/hosted/actor.hpp"

namespace aep::test {
namespace {

std::string name_of(char first, char second) {
    return std::string(16, first) + std::string(15, second);
}

/// Client 1 of node 0 is now AA..A, now BB..B; client 2 is "constant" all the time. Lookups of names mixed of both.
void look(u32 from, u32 nodes) {
    World world({.nodes = nodes, .clients = 2});
    std::atomic<bool> over{false}, looked{false};
    std::atomic<u64> constant{0}, changing{0};
    std::thread stays([&] {
        const Inside here(world, 0);
        Hosted self(2);
        EXPECT_EQ(self.open("constant"), Status::ok);
        constant = self.id().bits;
        while (!looked) std::this_thread::yield();
        self.die();
    });
    while (constant == 0) std::this_thread::yield();
    std::atomic<bool> looking{false};
    std::atomic<u64> found{0};
    std::thread changes([&] {
        const Inside here(world, 0);
        while (!looking) std::this_thread::yield();
        for (int life = 0; life < 4 || found == 0; ++life) {
            Hosted self(1);
            for (int i = 0; i < 4000 / SLOWNESS; ++i) {
                EXPECT_EQ(self.open((i % 2 == 0 ? name_of('A', 'A') : name_of('B', 'B')).c_str()),
                          Status::ok);
                changing.store(self.id().bits, std::memory_order_relaxed);
            }
            self.die();
        }
        over = true;
    });
    std::thread looks([&] {
        const Inside here(world, from);
        looking = true;
        const auto find = [&](const std::string& name) {
            char text[SHARE_NAME_BYTES] = {};
            name.copy(text, sizeof text - 1);
            return from == 0 ? find_here(text) : find_elsewhere(text);
        };
        while (!over) {
            EXPECT_EQ(find("constant").bits, constant.load());
            EXPECT_EQ(find(name_of('A', 'B')).bits, 0u);
            EXPECT_EQ(find(name_of('B', 'A')).bits, 0u);
            EXPECT_EQ(find("nobody").bits, 0u);
            for (const char c : {'A', 'B'}) {
                const ShareId id = find(name_of(c, c));
                found += id.bits != 0;
                EXPECT_TRUE(id.bits == 0 || id.inbox() == 1);
            }
        }
    });
    changes.join();
    looks.join();
    looked = true;
    stays.join();
    const Inside here(world, 0);
    EXPECT_EQ(remains(), "");
}

TEST(HostedNames, NobodyIsFoundByANameItNeverHad) { look(0, 1); }
TEST(HostedNames, NobodyElsewhereIsFoundByANameItNeverHad) { look(1, 2); }

}  // namespace
}  // namespace aep::test
