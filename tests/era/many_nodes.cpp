// Purpose: the protocol with as many nodes as a pool can have: what one costs another by being
//          there, and 64 that work, are slow at any access and die at any access, at the same time.
//          The figures of docs/design/scale.md are printed here.
// Who calls it: ctest; AEP_TEST_ERA_OPERATIONS says how many each node does in the long form. Also
//          under ThreadSanitizer.
// Crash rule: a node's thread that dies leaves its tables as they are, and never touches them again in that life.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "dsm-core/era/mailbox.hpp"
#include "dsm-core/era/recovery.hpp"

namespace aep::era {
namespace {

constexpr u32 MOST = 64;
constexpr u64 NEVER = ~u64{0};

Shape shape_of(u32 nodes) {
    return {.nodes = nodes, .lanes = 3, .refs = 32, .objects = 32, .slots = 4, .clients = 1};
}

struct Pool {
    explicit Pool(const Shape& shape)
        : space(std::make_unique<u8[]>(layout_of(shape).bytes + CACHE_LINE)) {
        const uptr base = round_up(reinterpret_cast<uptr>(space.get()), CACHE_LINE);
        t = tables_at(reinterpret_cast<void*>(base), shape);
    }
    std::unique_ptr<u8[]> space;
    Tables t;
};

struct Died {};

/// What one thread's accesses cost, when it is slow, and at which of them it dies.
struct Clock {
    std::mt19937 random;
    u64 accesses = 0;
    u64 fences = 0;
    u64 dies_at = NEVER;
    bool slow = false;

    void tick() {
        if (++accesses == dies_at) throw Died{};
        if (slow && random() % 64 == 0) std::this_thread::yield();
    }
};

/// Memory of one machine's thread.
struct ClockedMemory : LocalMemory {
    explicit ClockedMemory(Clock& its) : clock(&its) {}
    u64 load(const Word& word) const {
        clock->tick();
        return LocalMemory::load(word);
    }
    void store(Word& word, u64 value) const {
        clock->tick();
        LocalMemory::store(word, value);
    }
    bool cas(Word& word, u64 expected, u64 desired) const {
        clock->tick();
        return LocalMemory::cas(word, expected, desired);
    }
    void fence() const {
        ++clock->fences;
        LocalMemory::fence();
    }
    Clock* clock;
};

Disposal disposal() {
    Disposal d;
    d.reclaim = [](void*, u32) {};
    d.clean = [](void*, u32) { return true; };
    return d;
}

// ---- what nodes cost that do not talk

struct Costs {
    u64 send, look, receive, idle_look, release, recover;
    bool operator==(const Costs&) const = default;
};

/// Accesses of each step between nodes 0 and 1, where `nodes` take part and the others are silent.
Costs costs_among(u32 nodes) {
    Pool pool(shape_of(nodes));
    const Tables& t = pool.t;
    Clock clock{};
    ClockedMemory m(clock);
    std::vector<NodeWord> words;
    for (u32 i = 0; i < nodes; ++i) words.push_back(join(m, t, i));
    Lane<ClockedMemory> from(m, t, 0, 0, words[0]), to(m, t, 1, 0, words[1]);
    Lane<ClockedMemory> recoverer(m, t, 1, 2, words[1]);
    const auto cost = [&](auto&& step) {
        const u64 before = clock.accesses;
        step();
        return clock.accesses - before;
    };
    Costs c{};
    EXPECT_EQ(from.create(0, 0), Status::ok);
    RemoteMessage found{};
    const auto look = [&] {
        return each_message_to(m, t, 1, 7, [&](const RemoteMessage& w) { return found = w, true; });
    };
    EXPECT_FALSE(look());
    c.send = cost([&] { EXPECT_EQ(send(from, 1, 0), Status::ok); });
    c.look = cost([&] { EXPECT_TRUE(look()); });
    c.receive = cost([&] { EXPECT_EQ(take_message(to, found, 0), Status::ok); });
    EXPECT_FALSE(look());  // this one finds that nothing is left
    c.idle_look = cost([&] { EXPECT_FALSE(look()); });
    c.release = cost([&] { EXPECT_EQ(to.release(0), Status::ok); });
    c.recover = cost(
        [&] { EXPECT_EQ(Recovery<ClockedMemory>(recoverer, disposal()).recover(0), Status::ok); });
    return c;
}

TEST(EraManyNodes, WhoDoesNotTalkCostsNobodyAnything) {
    const Costs two = costs_among(2);
    EXPECT_EQ(two.idle_look, 1u);
    for (const u32 nodes : {8u, 16u, MOST}) {
        Costs many = costs_among(nodes);
        std::printf(
            "%u nodes: accesses of a send %llu, a look %llu, a receive %llu, a look in vain "
            "%llu, a release %llu, a recovery %llu\n",
            nodes, static_cast<unsigned long long>(many.send),
            static_cast<unsigned long long>(many.look),
            static_cast<unsigned long long>(many.receive),
            static_cast<unsigned long long>(many.idle_look),
            static_cast<unsigned long long>(many.release),
            static_cast<unsigned long long>(many.recover));
        // Recovery looks at a dead node's rings: some accesses for each node and slot.
        EXPECT_LE(many.recover - two.recover, u64{nodes - 2} * (4 * 2 * 4 + 16));
        many.recover = two.recover;
        EXPECT_EQ(many, two);
    }
}

TEST(EraManyNodes, ABitThatNobodyMeansCostsALook) {
    Pool pool(shape_of(3));
    const Tables& t = pool.t;
    LocalMemory m;
    for (u32 i = 0; i < 3; ++i) join(m, t, i);
    for (const u64 wild : {~u64{0}, u64{1} << 63, u64{2}}) {
        t.entry(1).mail = wild;
        EXPECT_FALSE(each_message_to(m, t, 1, ~0u, [](const RemoteMessage&) { return true; }));
        EXPECT_EQ(t.entry(1).mail.load() & 5, 0u);
    }
}

/// Node 0 dies at access `dies_at` of a send to node 1, and is recovered. False: it did not die.
bool dies_sending(const Tables& t, u64 dies_at) {
    Clock clock{};
    ClockedMemory m(clock);
    const NodeWord words[] = {join(m, t, 0), join(m, t, 1)};
    Lane<ClockedMemory> lane(m, t, 0, 0, words[0]), recoverer(m, t, 1, 2, words[1]);
    EXPECT_EQ(lane.create(0, 0), Status::ok);
    EXPECT_FALSE(each_message_to(m, t, 1, 0, [](const RemoteMessage&) { return true; }));
    clock.dies_at = clock.accesses + dies_at;
    bool died = false;
    try {
        EXPECT_EQ(send(lane, 1, 0), Status::ok);
    } catch (const Died&) {
        died = true;
    }
    clock.dies_at = NEVER;
    EXPECT_EQ(Recovery<ClockedMemory>(recoverer, disposal()).recover(0), Status::ok);
    return died;
}

TEST(EraManyNodes, WhatTheDeadSentIsToldOfByALookAtTheWholeRing) {
    u32 untold = 0, sent = 0;
    for (u64 access = 1;; ++access) {
        Pool pool(shape_of(2));
        const Tables& t = pool.t;
        LocalMemory m;
        const bool died = dies_sending(t, access);
        const auto found = [&] {
            return each_message_to(m, t, 1, 0, [](const RemoteMessage&) { return true; });
        };
        const bool told = found();
        u32 there = 0;
        each_message(m, t, 0, 1, true, [&](const RemoteMessage& w) {
            note_stray(m, t, w.from, 1, w.position);
            return ++there, false;
        });
        EXPECT_EQ(found(), there != 0) << "died at access " << access;
        sent += there;
        untold += there != 0 && !told;
        if (!died) break;
    }
    // Filled, the tail not moved; and moved, the bit not set.
    EXPECT_GE(untold, 2u);
    EXPECT_GT(sent, untold);
}

TEST(EraManyNodes, WhoeverSendsWhileARingIsForgottenIsHeard) {
    Pool pool(shape_of(2));
    const Tables& t = pool.t;
    LocalMemory m;
    const NodeWord words[] = {join(m, t, 0), join(m, t, 1)};
    constexpr u32 MESSAGES = 20'000;
    std::thread sender([&] {
        LocalMemory own;
        Lane<LocalMemory> lane(own, t, 0, 0, words[0]);
        EXPECT_EQ(lane.create(0, 0), Status::ok);
        for (u32 sent = 0; sent < MESSAGES;)
            if (send(lane, 1, 0) == Status::ok)
                ++sent;
            else
                std::this_thread::yield();
    });
    // It looks where it is told to, and nowhere else: a message that nobody told of would be waited
    // for until the test's time is up.
    Lane<LocalMemory> lane(m, t, 1, 0, words[1]);
    for (u32 got = 0; got < MESSAGES;) {
        const auto drop = [&](const RemoteMessage& w) {
            got += drop_message(lane, w) == Status::ok;
            return false;
        };
        each_message_to(m, t, 1, 0, drop);
        std::this_thread::yield();
    }
    sender.join();
    EXPECT_FALSE(each_message(m, t, 0, 1, true, [](const RemoteMessage&) { return true; }));
}

/// Memory in which somebody else is faster: just before a word is changed.
struct Overtaken : LocalMemory {
    bool cas(Word& word, u64 expected, u64 desired) {
        if (&word == at) {
            at = nullptr;
            other();
        }
        return LocalMemory::cas(word, expected, desired);
    }
    const Word* at;
    std::function<void()> other;
};

/// The sender finds the bit set that is about to be cleared, and leaves it.
TEST(EraManyNodes, WhatIsSentWhileARingIsForgottenIsToldOf) {
    Pool pool(shape_of(2));
    const Tables& t = pool.t;
    LocalMemory m;
    const NodeWord words[] = {join(m, t, 0), join(m, t, 1)};
    Lane<LocalMemory> lane(m, t, 0, 0, words[0]);
    EXPECT_EQ(lane.create(0, 0), Status::ok);
    t.entry(1).mail = 1;
    Overtaken overtaken;
    overtaken.at = &t.entry(1).mail;
    overtaken.other = [&] { EXPECT_EQ(send(lane, 1, 0), Status::ok); };
    forget_mail(overtaken, t, 0, 1);
    EXPECT_EQ(overtaken.at, nullptr);
    EXPECT_EQ(t.entry(1).mail.load(), 1u);
}

TEST(EraManyNodes, WhoDoesNotReceiveLeavesRoomForOthers) {
    Pool pool(shape_of(2));
    const Tables& t = pool.t;
    LocalMemory m;
    const NodeWord words[] = {join(m, t, 0), join(m, t, 1)};
    Lane<LocalMemory> lane(m, t, 0, 0, words[0]);
    EXPECT_EQ(lane.create(0, 0), Status::ok);
    constexpr u64 LAZY = 7, OTHER = 8;
    std::atomic<u64> head_seen{0};
    const auto may_send = [&](u64 to) { return has_room(m, t, 0, 1, to, head_seen); };
    for (u32 i = 0; i < t.shape.slots / 2; ++i) {
        EXPECT_TRUE(may_send(LAZY));
        EXPECT_EQ(send(lane, 1, 0, {LAZY, 1}), Status::ok);
    }
    EXPECT_FALSE(may_send(LAZY));
    EXPECT_TRUE(may_send(OTHER));
    EXPECT_EQ(send(lane, 1, 0, {OTHER, 1}), Status::ok);
    EXPECT_FALSE(may_send(OTHER));  // as many as are left free
}

// ---- 64 nodes that die

/// One pool, and what a perfect membership would know.
struct World {
    explicit World(u32 nodes) : pool(shape_of(nodes)), places(nodes), begin(nodes) {}
    Pool pool;
    struct Place {
        std::mutex judging;  // held while it is recovered, or comes back
        std::atomic<bool> dead{false};
    };
    std::vector<Place> places;
    std::latch begin;  // all at the same time
    std::atomic<u64> operations{0}, deaths{0}, recovered{0}, own{0};
};

class Machine {
  public:
    Machine(World& world, u32 node, u32 seed)
        : world_(world),
          t_(world.pool.t),
          node_(node),
          clock_{.random = std::mt19937(seed)},
          m_(clock_) {
        clock_.slow = true;
    }

    void run(u32 operations) {
        world_.begin.arrive_and_wait();
        while (done_ < operations) {
            try {
                live(operations);
            } catch (const Died&) {
                world_.places[node_].dead = true;
                ++world_.deaths;
            }
            clock_.dies_at = NEVER;
        }
        if (world_.places[node_].dead) come_back();
    }

  private:
    u32 random(u32 below) { return static_cast<u32>(clock_.random() % below); }

    void live(u32 operations) {
        come_back();
        if (done_ != 0 || random(2) == 0) clock_.dies_at = clock_.accesses + 1 + random(6'000);
        Lane<ClockedMemory> lane(m_, t_, node_, 0, word_), other(m_, t_, node_, 1, word_);
        for (; done_ < operations; ++done_, ++world_.operations) {
            use(random(2) == 0 ? lane : other);
            if (random(16) == 0) look_after(random(t_.shape.nodes));
        }
    }

    void use(Lane<ClockedMemory>& lane) {
        const u32 ref = random(t_.shape.refs), other = random(t_.shape.nodes);
        Status status = Status::ok;
        switch (random(6)) {
            case 0:
                status = lane.create(ref, random(t_.shape.objects));
                break;
            case 1:
                status = lane.attach(ref, random(t_.shape.objects));
                break;
            case 2:
                status = lane.release(ref);
                break;
            case 3:
            case 4:
                status = send(lane, other, random(t_.shape.objects));
                break;
            default:
                each_message_to(m_, t_, node_, other, [&](const RemoteMessage& w) {
                    status = random(2) == 0 ? take_message(lane, w, ref) : drop_message(lane, w);
                    return status != Status::gone;
                });
        }
        if (status == Status::last) lane.reclaimed();
        ASSERT_NE(status, Status::damaged);
        ASSERT_NE(status, Status::fenced) << "nobody declares a living node dead here";
    }

    /// Recovers a node if it is dead. It may die at that.
    void look_after(u32 node) {
        World::Place& place = world_.places[node];
        if (node == node_ || !place.dead) return;
        const std::unique_lock lock(place.judging, std::try_to_lock);
        if (!lock || !place.dead) return;
        Lane<ClockedMemory> mine(m_, t_, node_, 2, word_);
        const Disposal freed = disposal();
        const Status status = Recovery<ClockedMemory>(mine, freed).recover(node);
        ASSERT_NE(status, Status::damaged);
        world_.recovered += status == Status::ok;
    }

    /// As a machine that boots: waits for others to recover it, or does so itself.
    void come_back() {
        World::Place& place = world_.places[node_];
        for (u32 waits = random(300); !is_back(place, waits);) std::this_thread::yield();
    }

    bool is_back(World::Place& place, u32& waits) {
        const std::lock_guard lock(place.judging);
        const NodeWord word{t_.node(node_).load()};
        if (word.state() == NodeState::free) {
            word_ = join(m_, t_, node_);
            EXPECT_NE(word_.bits, 0u);
            t_.entry(node_).mail = t_.all_nodes();
            place.dead = false;
            return true;
        }
        // Whoever is at it, or was and is dead, has it, until that one is recovered.
        const bool others = word.state() == NodeState::recovering && t_.node_of(word.by()) != node_;
        if (!others && waits-- == 0) {
            EXPECT_EQ(recover_former(m_, t_, node_, disposal()), Status::ok);
            ++world_.own;
            waits = 0;
        }
        return false;
    }

    World& world_;
    const Tables& t_;
    u32 node_;
    Clock clock_;
    ClockedMemory m_;
    NodeWord word_{};
    u32 done_ = 0;
};

/// All that is left goes when all have gone: no count, no reference, no message, no transaction.
void expect_nothing_left(World& world) {
    const Tables& t = world.pool.t;
    LocalMemory m;
    for (u32 i = 0; i < t.shape.nodes; ++i) {
        const Status status = recover_former(m, t, i, disposal());
        EXPECT_TRUE(status == Status::ok || status == Status::no_node) << i;
    }
    for (u32 i = 0; i < t.shape.objects; ++i) EXPECT_EQ(t.count(i).load(), FREE_OBJECT.bits) << i;
    for (u32 node = 0; node < t.shape.nodes; ++node) {
        EXPECT_EQ(NodeWord{t.node(node).load()}.state(), NodeState::free);
        for (u32 i = 0; i < t.shape.refs; ++i) EXPECT_EQ(t.ref(node, i).load(), Cell::empty().bits);
        for (u32 to = 0; to < t.shape.nodes; ++to)
            for (u32 i = 0; i < t.shape.slots; ++i)
                EXPECT_EQ(t.message(node, to, i).load(), Cell::empty().bits);
        for (u32 lane = 0; lane < t.shape.lanes; ++lane) {
            const RedoHead head{t.lane(t.writer(node, lane)).redo.head.load()};
            EXPECT_EQ(head.kind(), RedoKind::none);
        }
    }
}

TEST(EraManyNodes, SixtyFourThatAreSlowAndDieAnywhereLeaveNothing) {
    const char* const asked = std::getenv("AEP_TEST_ERA_OPERATIONS");
    const u32 operations = asked != nullptr ? static_cast<u32>(std::atoi(asked)) : 1'000;
    World world(MOST);
    std::vector<std::thread> threads;
    for (u32 node = 0; node < MOST; ++node) {
        threads.emplace_back(
            [&world, node, operations] { Machine(world, node, 64 + node).run(operations); });
    }
    for (std::thread& thread : threads) thread.join();
    std::printf("%llu operations, %llu deaths, %llu recovered by others, %llu by themselves\n",
                static_cast<unsigned long long>(world.operations),
                static_cast<unsigned long long>(world.deaths),
                static_cast<unsigned long long>(world.recovered),
                static_cast<unsigned long long>(world.own));
    EXPECT_GT(world.deaths, 0u);
    EXPECT_GT(world.recovered, 0u);
    expect_nothing_left(world);
}

}  // namespace
}  // namespace aep::era
