// Purpose: random use of a flat pool by several clients against a model of who refers to what, with
//          clients that die between two operations; and real threads, each a client.
// Who calls it: ctest.
// Crash rule: clients die between two operations here; tests/flat/crash.cpp does the rest.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "bench/flat/client.hpp"

namespace aep::flat {
namespace {

using Local = Client<era::LocalMemory>;

/// The pool's memory, and the pool in it.
struct Space {
    explicit Space(const Geometry& geometry)
        : bytes(std::make_unique<u8[]>(Pool::bytes(geometry) + CACHE_LINE)),
          pool(reinterpret_cast<void*>(round_up(reinterpret_cast<uptr>(bytes.get()), CACHE_LINE)),
               geometry) {}
    std::unique_ptr<u8[]> bytes;
    Pool pool;
};

/// Three clients by one of the rules, and what each of them must have.
template <class Memory>
class Model {
  public:
    static constexpr Geometry GEOMETRY{
        .clients = 3, .refs = 400, .pages = 12, .slots = 8, .page_shift = 11};

    explicit Model(u32 seed) : random_(seed) {
        for (u32 i = 0; i < GEOMETRY.clients; ++i) join(i);
    }

    void step() {
        const u32 who = below(GEOMETRY.clients);
        switch (below(8)) {
            case 0:
            case 1:
            case 2:
                return allocate(who);
            case 3:
            case 4:
                return release(who);
            case 5:
                return send(who);
            case 6:
                return receive(who);
            default:
                return below(50) == 0 ? die(who) : attach(who);
        }
    }

    /// Everything goes, and then every block of the pool is there to be allocated once.
    void finish() {
        for (u32 who = 0; who < GEOMETRY.clients; ++who)
            while (!held_[who].empty()) release(who);
        for (u32 who = 0; who < GEOMETRY.clients; ++who) die(who);
        for (u32 i = 0; i < GEOMETRY.pages * GEOMETRY.blocks(); ++i)
            ASSERT_EQ(space_.pool.tables().count(i).load(), era::FREE_OBJECT.bits);
        usize blocks = 0;
        for (u32 who = 0; who < GEOMETRY.clients; ++who) {
            Ref ref{};
            while (clients_[who]->allocate(64, ref) == Status::ok) ++blocks;
        }
        EXPECT_EQ(blocks, usize{GEOMETRY.pages} * GEOMETRY.blocks());
    }

  private:
    u32 below(u32 bound) { return static_cast<u32>(random_() % bound); }

    void join(u32 who) {
        clients_[who] = std::make_unique<Client<Memory>>(memory_, space_.pool, who);
        ASSERT_TRUE(clients_[who]->joined());
    }

    void gained(u32 who, Ref ref) {
        held_[who].push_back(ref);
        ++references_[ref.object];
    }

    /// One reference less; the last one takes the content along.
    void dropped(u32 object) {
        if (--references_[object] == 0) {
            references_.erase(object);
            sizes_.erase(object);
        }
    }

    void allocate(u32 who) {
        static constexpr usize SIZES[] = {1, 64, 65, 100, 200, 511, 512};
        const usize size = SIZES[below(std::size(SIZES))];
        Ref ref{};
        const Status status = clients_[who]->allocate(size, ref);
        if (status == Status::full) return;
        ASSERT_EQ(status, Status::ok);
        ASSERT_FALSE(references_.contains(ref.object));
        std::memset(clients_[who]->address(ref.object), static_cast<int>(ref.object & 0xff), size);
        sizes_[ref.object] = size;
        gained(who, ref);
    }

    /// The object is whole, at the address that this client finds.
    void look(u32 who, u32 object) {
        const u8* bytes = static_cast<const u8*>(clients_[who]->address(object));
        for (usize i = 0; i < sizes_.at(object); ++i)
            ASSERT_EQ(bytes[i], static_cast<u8>(object)) << "object " << object;
        const era::CountWord word{space_.pool.tables().count(object).load()};
        ASSERT_EQ(word.count(), references_.at(object));
    }

    void release(u32 who) {
        if (held_[who].empty()) return;
        std::swap(held_[who][below(static_cast<u32>(held_[who].size()))], held_[who].back());
        const Ref ref = held_[who].back();
        held_[who].pop_back();
        look(who, ref.object);
        ASSERT_EQ(clients_[who]->release(ref), Status::ok);
        dropped(ref.object);
    }

    void send(u32 who) {
        const u32 to = (who + 1 + below(GEOMETRY.clients - 1)) % GEOMETRY.clients;
        if (held_[who].empty()) return;
        const Ref ref = held_[who][below(static_cast<u32>(held_[who].size()))];
        std::deque<u32>& ring = rings_[{who, to}];
        ASSERT_FALSE(clients_[who]->has_room(to) && ring.size() == GEOMETRY.slots);
        const Status status = clients_[who]->send(to, ref);
        if (ring.size() == GEOMETRY.slots) {
            ASSERT_EQ(status, Status::full);
            return;
        }
        ASSERT_EQ(status, Status::ok);
        ring.push_back(ref.object);
        ++references_[ref.object];
    }

    void receive(u32 who) {
        const u32 from = (who + 1 + below(GEOMETRY.clients - 1)) % GEOMETRY.clients;
        std::deque<u32>& ring = rings_[{from, who}];
        Ref ref{};
        const bool cell_left = held_[who].size() < GEOMETRY.refs;
        ASSERT_FALSE(clients_[who]->has_message(from) && ring.empty());
        const Status status = clients_[who]->receive(from, ref);
        if (ring.empty() || !cell_left) {
            ASSERT_EQ(status, cell_left ? Status::empty : Status::full);
            return;
        }
        ASSERT_EQ(status, Status::ok);
        const auto found = std::find(ring.begin(), ring.end(), ref.object);
        ASSERT_NE(found, ring.end());
        ASSERT_TRUE(found == ring.begin() || disturbed_.contains({from, who}));
        ring.erase(found);
        held_[who].push_back(ref);
        look(who, ref.object);
    }

    void attach(u32 who) {
        if (held_[who].empty() || held_[who].size() == GEOMETRY.refs) return;
        Ref ref{};
        const u32 object = held_[who][below(static_cast<u32>(held_[who].size()))].object;
        ASSERT_EQ(clients_[who]->attach(object, ref), Status::ok);
        gained(who, ref);
    }

    /// Recovered by another one, the client comes back with nothing. What it sent still arrives.
    void die(u32 who) {
        ASSERT_EQ(clients_[(who + 1) % GEOMETRY.clients]->recover(who), Status::ok);
        for (const Ref ref : held_[who]) dropped(ref.object);
        held_[who].clear();
        for (u32 from = 0; from < GEOMETRY.clients; ++from) {
            disturbed_.insert({from, who});
            disturbed_.insert({who, from});
            for (const u32 object : rings_[{from, who}]) dropped(object);
            rings_[{from, who}].clear();
        }
        Ref ref{};
        ASSERT_NE(clients_[who]->allocate(64, ref), Status::ok);  // fenced, or no page
        join(who);
    }

    std::mt19937 random_;
    Memory memory_{era::LocalMemory{}};
    Space space_{GEOMETRY};
    std::unique_ptr<Client<Memory>> clients_[GEOMETRY.clients];
    std::vector<Ref> held_[GEOMETRY.clients];
    std::map<std::pair<u32, u32>, std::deque<u32>> rings_;
    std::set<std::pair<u32, u32>> disturbed_;  // a death may have changed their order
    std::map<u32, u32> references_;            // object -> cells and messages
    std::map<u32, usize> sizes_;
};

template <class Memory>
void use_randomly() {
    for (u32 seed = 1; seed <= 8; ++seed) {
        Model<Memory> model(seed);
        for (int i = 0; i < 20'000 && !testing::Test::HasFatalFailure(); ++i) model.step();
        model.finish();
        ASSERT_FALSE(testing::Test::HasFatalFailure()) << "seed " << seed;
    }
}

TEST(FlatModel, randomUse) { use_randomly<era::LocalMemory>(); }

TEST(FlatModel, randomUseAsPublished) { use_randomly<PublishedMemory<era::LocalMemory>>(); }

TEST(FlatModel, refusesWhatItCannotHold) {
    era::LocalMemory memory;
    constexpr Geometry SMALL{.clients = 2, .refs = 2, .pages = 1, .slots = 1, .page_shift = 8};
    const Space space(SMALL);
    Local client(memory, space.pool, 0);
    Ref ref{};
    EXPECT_EQ(client.allocate(65, ref), Status::invalid);
    EXPECT_EQ(client.allocate(64, ref), Status::ok);
    EXPECT_EQ(client.allocate(64, ref), Status::ok);
    EXPECT_EQ(client.allocate(64, ref), Status::full);  // no cell
    EXPECT_EQ(client.send(1, ref), Status::no_node);
    EXPECT_FALSE(Local(memory, space.pool, 0).joined());
}

/// Each thread allocates, sends, receives and drops; nothing is left afterwards.
TEST(FlatThreads, exchangeObjects) {
    static constexpr Geometry SHARED{.clients = 4, .refs = 4096, .pages = 512, .slots = 16};
    const Space space(SHARED);
    std::vector<std::unique_ptr<Local>> clients;
    era::LocalMemory memory;
    for (u32 i = 0; i < SHARED.clients; ++i)
        clients.push_back(std::make_unique<Local>(memory, space.pool, i));
    std::vector<std::thread> threads;
    for (u32 me = 0; me < SHARED.clients; ++me) {
        threads.emplace_back([&clients, me] {
            Local& client = *clients[me];
            std::mt19937 random(me);
            for (u32 i = 0; i < 20'000; ++i) {
                Ref ref{};
                const u32 other =
                    (me + 1 + static_cast<u32>(random()) % (SHARED.clients - 1)) % SHARED.clients;
                if (client.receive(other, ref) == Status::ok) {
                    const u32 object = *static_cast<u32*>(client.address(ref.object));
                    ASSERT_EQ(object, ref.object);
                    ASSERT_EQ(client.release(ref), Status::ok);
                }
                ASSERT_EQ(client.allocate(64 + random() % 1000, ref), Status::ok);
                *static_cast<u32*>(client.address(ref.object)) = ref.object;
                client.send(other, ref);
                ASSERT_EQ(client.release(ref), Status::ok);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (u32 dead = 1; dead < SHARED.clients; ++dead)
        EXPECT_EQ(clients[0]->recover(dead), Status::ok);
    for (u32 from = 1; from < SHARED.clients; ++from) {
        Ref ref{};
        while (clients[0]->receive(from, ref) == Status::ok)
            EXPECT_EQ(clients[0]->release(ref), Status::ok);
    }
    for (u32 i = 0; i < space.pool.tables().shape.objects; ++i)
        ASSERT_EQ(space.pool.tables().count(i).load(), era::FREE_OBJECT.bits) << i;
}

}  // namespace
}  // namespace aep::flat
