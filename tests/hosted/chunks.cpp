// Purpose: chunks of the pool between clients of a context and between contexts: nobody has another's, limits hold, and
//          all come back; what is said of that in the log ring is whole.
// Who calls it: ctest, under ThreadSanitizer and AddressSanitizer.
// Crash rule: see actor.hpp.
#include <thread>

#include "dsm-core/context/log_ring.hpp"
#include "tests/hosted/actor.hpp"

namespace aep::test {
namespace {

constexpr u32 LIMIT = 6;  // chunks of a client

struct Owners {
    std::vector<std::atomic<u32>> who;
    explicit Owners(u32 chunks) : who(chunks) {}
    void take(u32 first, u32 count, u32 us) {
        for (u32 c = first; c < first + count; ++c) {
            u32 nobody = 0;
            EXPECT_TRUE(who[c].compare_exchange_strong(nobody, us, std::memory_order_relaxed)) << c;
        }
    }
    void give(u32 c, u32 us) { EXPECT_EQ(who[c].exchange(0, std::memory_order_relaxed), us); }
};

void churn(u32 node, u32 index, u64 seed, Owners& owners, int steps) {
    std::mt19937_64 random(seed);
    Hosted self(index);
    client_at(index).limit.store(LIMIT * CHUNK_SIZE);
    const u32 us = node * 100 + index;
    std::vector<u32> have;
    for (int i = 0; i < steps; ++i) {
        if (random() % 3 != 0) {
            const u32 count = 1 + static_cast<u32>(random() % 3);
            const u32 align = 1u << random() % 2;
            const ChunkIndex exact =
                random() % 4 == 0 ? ChunkIndex{static_cast<u32>(random() % context().chunk_count)}
                                  : NO_CHUNK;
            const auto said = self.ask(op::ClaimChunks{count, align, exact});
            if (have.size() + count > LIMIT) EXPECT_NE(said.status, Status::ok);
            if (said.status == Status::ok) {
                const u32 first = raw(said.first);
                EXPECT_EQ(first % align, 0u);
                EXPECT_TRUE(exact == NO_CHUNK || said.first == exact);
                owners.take(first, count, us);
                for (u32 c = first; c < first + count; ++c) have.push_back(c);
            } else {
                EXPECT_TRUE(said.status == Status::miss || said.status == Status::limit);
            }
        } else if (!have.empty()) {
            const usize at = random() % have.size();
            owners.give(have[at], us);
            EXPECT_EQ(self.ask(op::ReturnChunk{ChunkIndex{have[at]}, random() % 2 == 0}).status,
                      Status::ok);
            have.erase(have.begin() + static_cast<long>(at));
        }
        const u32 others = static_cast<u32>(random() % context().chunk_count);
        if (i % 16 == 0 && std::find(have.begin(), have.end(), others) == have.end())
            EXPECT_EQ(self.ask(op::ReturnChunk{ChunkIndex{others}, false}).status, Status::miss);
    }
    for (const u32 c : have) owners.give(c, us);
    self.die();  // with what it has
}

/// Every record is one that somebody wrote, as a whole.
void read_log(const LogRing& ring, LogReader& reader, u64& seen) {
    seen += reader.read(
        ring,
        [](const LogEntry& e) {
            EXPECT_TRUE(e.event == Event::client_limit || e.event == Event::no_run ||
                        e.event == Event::not_its_chunk);
            EXPECT_TRUE(e.client >= 1 && e.client <= context().max_clients) << e.client;
            EXPECT_EQ(e.b, e.event == Event::client_limit ? LIMIT * CHUNK_SIZE : 0);
        });
}

TEST(HostedChunks, NobodyHasAnothers) {
    constexpr u32 NODES = 2, CLIENTS = 2;
    constexpr int STEPS = 6000 / SLOWNESS;
    for (u64 seed = 1; seed <= 3; ++seed) {
        World world({.nodes = NODES, .clients = CLIENTS, .pool_bytes = 96 * MiB});
        u32 chunks = 0;
        {
            const Inside here(world, 0);
            chunks = context().chunk_count;
        }
        ASSERT_LT(chunks, NODES * CLIENTS * LIMIT);  // there are not enough for all
        Owners owners(chunks);
        std::atomic<u32> working{NODES * CLIENTS};
        std::vector<std::thread> threads;
        for (u32 node = 0; node < NODES; ++node) {
            for (u32 i = 1; i <= CLIENTS; ++i) {
                threads.emplace_back([&, node, i] {
                    const Inside here(world, node);
                    for (u64 life = 0; life < 3; ++life)
                        churn(node, i, seed * 100 + node * 10 + i + life, owners, STEPS / 3);
                    --working;
                });
            }
            threads.emplace_back([&, node] {  // the daemon
                const Inside here(world, node);
                LogReader reader;
                u64 lost = 0;
                while (working != 0) read_log(log_ring(), reader, lost);
                read_log(log_ring(), reader, lost);
            });
        }
        for (std::thread& t : threads) t.join();
        for (u32 node = 0; node < NODES; ++node) {
            const Inside here(world, node);
            EXPECT_EQ(remains(), "") << "seed " << seed;
        }
    }
}

}  // namespace
}  // namespace aep::test
