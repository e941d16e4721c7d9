// Purpose: recovery on tables that no sound node wrote: nothing outside of them is read or written,
//          sound cells of others stay, what was skipped is told.
// Who calls it: ctest.
// Crash rule: the tables lie between pages without access.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <string>
#include <utility>

#include "dsm-core/era/mailbox.hpp"
#include "dsm-core/era/recovery.hpp"

namespace aep::era::test {
namespace {

constexpr Shape SHAPE{.nodes = 3, .lanes = 2, .refs = 8, .objects = 8, .slots = 4};
constexpr usize GUARD = 1 * MiB;

/// Tables of three living nodes that end where access ends.
class Guarded {
  public:
    Guarded() {
        bytes_ = round_up(layout_of(SHAPE).bytes, OS_PAGE_SIZE);
        at_ = static_cast<u8*>(
            mmap(nullptr, bytes_ + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        EXPECT_EQ(mprotect(at_ + GUARD, bytes_, PROT_READ | PROT_WRITE), 0);
        t = tables_at(at_ + GUARD + (bytes_ - layout_of(SHAPE).bytes), SHAPE);
        for (u32 i = 0; i < SHAPE.nodes; ++i) words_[i] = join(m, t, i);
    }
    ~Guarded() { munmap(at_, bytes_ + 2 * GUARD); }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    Lane<LocalMemory> lane(u32 node, u32 i = 0) { return {m, t, node, i, words_[node]}; }

    Status recover(u32 dead) {
        Disposal disposal;
        disposal.context = this;
        disposal.reclaim = [](void*, u32) {};
        disposal.clean = [](void*, u32) { return true; };
        disposal.damaged = [](void* self, const Damage& d) {
            static_cast<Guarded*>(self)->told += std::string(d.what) + "\n";
        };
        Lane<LocalMemory> mine = lane(1, SHAPE.lanes - 1);
        const Status status = Recovery(mine, disposal).recover(dead);
        EXPECT_EQ(NodeWord{t.node(dead).load()}.state(), NodeState::free);
        for (u32 i = 0; i < SHAPE.refs; ++i) EXPECT_EQ(t.ref(dead, i).load(), 0u);
        return status;
    }

    LocalMemory m;
    Tables t;
    std::string told;

  private:
    u8* at_;
    usize bytes_;
    NodeWord words_[SHAPE.nodes];
};

TEST(EraDamaged, cellsOfNoObjectAreEmptied) {
    for (const u64 bits : {Cell::of(8).bits, Cell::of(0xffff'fffe).bits, ~u64{0},
                           Cell::of(0x1000'0000, 77).bits, Cell::empty(4095).bits}) {
        Guarded g;
        g.t.ref(0, 2) = bits;
        g.t.message(2, 0, 1) = bits;
        g.t.message(0, 2, 1) = bits;
        EXPECT_EQ(g.recover(0), Status::damaged);
        EXPECT_NE(g.told, "");
        EXPECT_EQ(g.t.message(2, 0, 1).load(), 0u);
    }
}

TEST(EraDamaged, aCountOfNoWriterIsStillACount) {
    Guarded g;
    ASSERT_EQ(g.lane(0).create(0, 0), Status::ok);
    g.t.count(0) = CountWord::make(4095, 99, 1).bits;
    ASSERT_EQ(g.lane(2).attach(0, 0), Status::ok);
    EXPECT_EQ(g.recover(0), Status::ok);
    EXPECT_EQ(CountWord{g.t.count(0).load()}.count(), 1u);
    EXPECT_EQ(g.lane(2).release(0), Status::last);
}

TEST(EraDamaged, aLaneReleasesNoReferenceToNothing) {
    Guarded g;
    g.t.ref(2, 3) = Cell::of(123'456'789).bits;
    EXPECT_EQ(g.lane(2).release(3), Status::damaged);
    EXPECT_EQ(g.t.ref(2, 3).load(), 0u);
}

TEST(EraDamaged, aReferenceThatNobodyCountsIsDropped) {
    Guarded g;
    ASSERT_EQ(g.lane(0).create(5, 5), Status::ok);
    ASSERT_EQ(g.lane(0).release(5), Status::last);
    const u64 none = g.t.count(5).load();
    g.t.ref(2, 3) = Cell::of(5).bits;
    EXPECT_EQ(g.lane(2).release(3), Status::damaged);
    EXPECT_EQ(g.t.ref(2, 3).load(), 0u);
    EXPECT_EQ(g.t.count(5).load(), none);
}

TEST(EraDamaged, aReferenceThatAnotherLaneHasClaimedIsLeftToIt) {
    Guarded g;
    ASSERT_EQ(g.lane(2).create(0, 0), Status::ok);
    ASSERT_TRUE(g.lane(2, 1).claim(g.t.ref(2, 0), Cell::of(0)));
    EXPECT_EQ(g.lane(2, 0).release(0), Status::busy);
    EXPECT_EQ(CountWord{g.t.count(0).load()}.count(), 1u);
}

/// What is no affair of node 0: the rings between the others, and the hints of its own.
std::string words_of_others(const Tables& t) {
    std::string words;
    const auto add = [&words](const Word& first, usize bytes) {
        words.append(reinterpret_cast<const char*>(&first), bytes);
    };
    for (const auto& [from, to] : {std::pair{1u, 2u}, std::pair{2u, 1u}})
        add(t.tail(from, to), t.at.ring);
    for (const auto& [from, to] : {std::pair{0u, 1u}, std::pair{1u, 0u}})
        add(t.tail(from, to), 2 * CACHE_LINE);
    return words;
}

/// Every offset and number that a record may name, and what of it may be done: sound words of the
/// other nodes stay as they are.
TEST(EraDamaged, redoRecordsChangeNoCellOfOthers) {
    u64 refused = 0;
    for (const RedoKind kind : {RedoKind::attach, RedoKind::release, RedoKind::reclaim,
                                RedoKind::move, static_cast<RedoKind>(77)}) {
        const usize end = layout_of(SHAPE).bytes + 64;
        for (usize offset = 0; offset < end; offset += 4) {
            Guarded g;
            ASSERT_EQ(g.lane(2).create(1, 5), Status::ok);
            RedoRecord& redo = g.t.lane(g.t.writer(0, 1)).redo;
            redo.object = 5;
            // A word that the record's author would like to see changed looks as its cell does.
            redo.cell = kind == RedoKind::move ? g.t.offset_of(g.t.ref(0, 1)) : offset;
            redo.to = offset;
            g.t.ref(0, 1) = Cell::of(5, g.t.writer(0, 1)).bits;
            redo.head = RedoHead::make(kind, 3).bits;
            const u64 others = g.t.ref(2, 1).load();
            const u64 before = g.t.node(1).load();
            const std::string words = words_of_others(g.t);
            refused += g.recover(0) == Status::damaged;
            ASSERT_EQ(g.t.ref(2, 1).load(), others) << offset;
            ASSERT_EQ(g.t.node(1).load(), before) << offset;
            ASSERT_TRUE(words_of_others(g.t) == words) << offset;
        }
        for (const u64 far : {~u64{0}, u64{1} << 63, u64{1} << 40, ~u64{7}}) {
            // One word of the record, the others sound.
            for (Word RedoRecord::*const word : {&RedoRecord::object, &RedoRecord::cell}) {
                Guarded g;
                RedoRecord& redo = g.t.lane(g.t.writer(0, 1)).redo;
                redo.object = 5;
                redo.cell = redo.to = g.t.offset_of(g.t.ref(0, 1));
                redo.*word = far;
                redo.head = RedoHead::make(kind, 3).bits;
                EXPECT_EQ(g.recover(0), Status::damaged);
            }
        }
    }
    EXPECT_GT(refused, 1000u);
}

TEST(EraDamaged, aNodeWordOfNobodyIsTaken) {
    for (const NodeWord word :
         {NodeWord::make(NodeState::recovering, 1, 0), NodeWord::make(NodeState::recovering, 1, 7),
          NodeWord::make(NodeState::recovering, 1, 0xff'ffff),
          NodeWord::make(static_cast<NodeState>(9), 1, 3)}) {
        Guarded g;
        // inherit() sees it.
        g.t.node(2) = NodeWord::make(NodeState::recovering, 1, 0xff'ffff).bits;
        g.t.node(0) = word.bits;
        EXPECT_EQ(g.recover(0), Status::damaged);
        EXPECT_EQ(g.recover(2), Status::damaged);
    }
}

TEST(EraDamaged, hintsOfRingsCostTimeOnly) {
    for (const u64 tail : {u64{0}, u64{3}, ~u64{0}, u64{1} << 63}) {
        for (const u64 head : {u64{0}, u64{4}, ~u64{0}, ~u64{0} - 2}) {
            Guarded g;
            ASSERT_EQ(g.lane(0).create(0, 0), Status::ok);
            g.t.tail(0, 2) = tail;
            g.t.head(0, 2) = head;
            Lane<LocalMemory> sender = g.lane(0);
            send(sender, 2, 0);
            Lane<LocalMemory> receiver = g.lane(2);
            u32 object = 0;
            receive(receiver, 0, 4, object);
            EXPECT_EQ(g.recover(0), Status::ok);
            EXPECT_EQ(g.recover(2), Status::ok);
            EXPECT_EQ(g.t.count(0).load(), FREE_OBJECT.bits);
        }
    }
}

}  // namespace
}  // namespace aep::era::test
