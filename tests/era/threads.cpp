// Purpose: the protocol on real memory with real threads: every thread a lane, one node declared
//          dead and recovered while the others go on. Also under ThreadSanitizer.
// Who calls it: ctest.
// Crash rule: the dead node's threads stop between two operations; the explorer does the rest.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "dsm-core/era/mailbox.hpp"
#include "dsm-core/era/recovery.hpp"

namespace aep::era {
namespace {

constexpr Shape SHAPE{.nodes = 3, .lanes = 3, .refs = 64, .objects = 4, .slots = 4};
constexpr u32 REFS_OF_A_LANE = 16;
constexpr u32 OPERATIONS = 200'000;

struct Pool {
    Pool() : space(std::make_unique<u8[]>(layout_of(SHAPE).bytes + CACHE_LINE)) {
        const uptr base = round_up(reinterpret_cast<uptr>(space.get()), CACHE_LINE);
        t = tables_at(reinterpret_cast<void*>(base), SHAPE);
    }
    std::unique_ptr<u8[]> space;
    Tables t;
};

/// Does random things with the references of one lane, and keeps them.
template <class Memory>
void use(Memory memory, const Tables& t, u32 node, u32 number, NodeWord word, u32 operations) {
    Lane<Memory> lane(memory, t, node, number, word);
    std::mt19937 engine(node * 10 + number);
    const auto random = [&engine] { return static_cast<u32>(engine()); };
    u32 object = 0;
    for (u32 i = 0; i < operations; ++i) {
        const u32 ref = number * REFS_OF_A_LANE + random() % REFS_OF_A_LANE;
        const u32 other = random() % SHAPE.nodes;
        Status status = Status::ok;
        switch (random() % 5) {
            case 0:
                status = lane.attach(ref, random() % SHAPE.objects);
                break;
            case 1:
                status = lane.create(ref, random() % SHAPE.objects);
                break;
            case 2:
                status = lane.release(ref);
                break;
            case 3:
                status = send(lane, other, random() % SHAPE.objects);
                break;
            default:
                status = receive(lane, other, ref, object);
                break;
        }
        if (status == Status::last) lane.reclaimed();
        ASSERT_NE(status, Status::damaged);
    }
}

template <class Memory>
void run(Memory memory, u32 operations) {
    Pool pool;
    const Tables& t = pool.t;
    NodeWord words[SHAPE.nodes];
    for (u32 i = 0; i < SHAPE.nodes; ++i) words[i] = join(memory, t, i);
    std::vector<std::thread> dying;
    std::vector<std::thread> living;
    for (u32 lane = 0; lane < 2; ++lane) {
        for (u32 node = 0; node < SHAPE.nodes; ++node) {
            (node == 0 ? dying : living)
                .emplace_back(use<Memory>, memory, std::cref(t), node, lane, words[node],
                              node == 0 ? operations / 4 : operations);
        }
    }
    for (std::thread& thread : dying) thread.join();
    Disposal disposal;
    disposal.reclaim = [](void*, u32) {};
    disposal.clean = [](void*, u32) { return true; };
    Lane<Memory> mine(memory, t, 1, 2, words[1]);
    EXPECT_EQ(Recovery<Memory>(mine, disposal).recover(0), Status::ok);
    for (std::thread& thread : living) thread.join();
    // All that is left goes when the others are dead, too.
    EXPECT_EQ(Recovery<Memory>(mine, disposal).recover(2), Status::ok);
    words[2] = join(memory, t, 2);
    Lane<Memory> last(memory, t, 2, 2, words[2]);
    EXPECT_EQ(Recovery<Memory>(last, disposal).recover(1), Status::ok);
    for (u32 i = 0; i < SHAPE.objects; ++i) EXPECT_EQ(t.count(i).load(), FREE_OBJECT.bits) << i;
    for (u32 node = 0; node < SHAPE.nodes; ++node)
        for (u32 i = 0; i < SHAPE.refs; ++i) EXPECT_EQ(t.ref(node, i).load(), Cell::empty().bits);
}

TEST(EraThreads, onLocalMemory) { run(LocalMemory{}, OPERATIONS); }

TEST(EraThreads, withFlushes) { run(CxlMemory{}, OPERATIONS / 4); }

TEST(EraLayout, tablesFollowEachOtherOnTheirOwnLines) {
    const Layout at = layout_of(SHAPE);
    const usize offsets[] = {at.lanes, at.seen, at.refs, at.rings, at.objects, at.bytes};
    usize before = 0;
    for (const usize offset : offsets) {
        EXPECT_GT(offset, before);
        EXPECT_EQ(offset % CACHE_LINE, 0U);
        before = offset;
    }
    const Pool pool;
    EXPECT_EQ(pool.t.offset_of(pool.t.count(SHAPE.objects - 1)) + sizeof(ObjectEntry), at.bytes);
    EXPECT_EQ(pool.t.node_of(pool.t.writer(2, 1)), 2U);
    EXPECT_TRUE(valid(SHAPE));
    EXPECT_FALSE(valid({.nodes = 64, .lanes = 64, .refs = 1, .objects = 1, .slots = 1}));
}

}  // namespace
}  // namespace aep::era
