// Purpose: a node that dies and has written over its words in the pool, or over another's: the
//          others recover it all the same, skip what no sound node wrote, and say so.
// Who calls it: ctest.
// Crash rule: in children, a node each.
#include "dsm-core/era/judge.hpp"
#include "tests/node/fixture.hpp"

namespace aep {
namespace {

using namespace test;

NodeOptions node_in(const Directory& directory, u32 node) {
    NodeOptions options = options_in(directory);
    const std::string name = "node" + std::to_string(node);
    options.paths = context_paths(name, directory.path() + "/" + name,
                                  directory.path() + "/" + name + ".socket");
    options.pool = directory.file("pool");
    options.nodes.node = node;
    return options;
}

/// Node 1 lives, writes `damage` into the tables and dies; node 2 has to recover it, and a daemon
/// of node 2 that begins anew has to begin. What node 2's check says.
void after(const std::function<void(const era::Tables&)>& damage, const char* word) {
    const Directory directory;
    in_child([&] {
        Host dying(node_in(directory, 0));
        damage(dying.membership()->tables());
        _exit(0);  // the node is left as it is
    });
    for (int start = 0; start < 2; ++start) {
        in_child([&] {
            said.clear();
            Host host(node_in(directory, 1));
            const era::Tables& t = host.membership()->tables();
            host.sweep(1);
            EXPECT_EQ(era::NodeWord{t.node(0).load()}.state(), era::NodeState::free);
            if (start == 0) {
                EXPECT_TRUE(contains(said, word)) << said;
                EXPECT_TRUE(contains(said, "no sound node wrote")) << said;
                EXPECT_GT(host.membership()->damaged(), 0u);
                EXPECT_TRUE(contains(all_of(host.check()), "skipped by recovery"));
            } else {
                EXPECT_EQ(host.membership()->damaged(), 0u) << said;
                EXPECT_EQ(all_of(host.check()), "");
            }
            _exit(testing::Test::HasFailure());
        });
    }
    // And the node itself comes back.
    in_child([&] { Host again(node_in(directory, 0)); });
}

TEST(DamagedNodes, AReferenceToNoObject) {
    after([](const era::Tables& t) { t.ref(0, 5) = era::Cell::of(0xffff'fff0).bits; }, "cell");
    after([](const era::Tables& t) { t.ref(0, 5) = ~u64{0}; }, "cell");
    after([](const era::Tables& t) { t.ref(0, 5) = era::Cell::of(7).bits; }, "count");
}

TEST(DamagedNodes, AMessageOfNoObject) {
    after([](const era::Tables& t) { t.message(1, 0, 3) = era::Cell::of(0x7fff'ffff).bits; },
          "cell");
    after([](const era::Tables& t) { t.message(0, 2, 3) = ~u64{0}; }, "cell");
}

TEST(DamagedNodes, ARedoRecordThatNamesWhatItMayNotWrite) {
    using era::RedoHead, era::RedoKind;
    const auto crafted = [](RedoKind kind, u64 object, u64 cell, u64 to) {
        return [=](const era::Tables& t) {
            era::RedoRecord& redo = t.lane(t.writer(0, 3)).redo;
            redo.object = object;
            redo.cell = cell;
            redo.to = to;
            redo.head = RedoHead::make(kind, 1).bits;
        };
    };
    const u64 far = u64{1} << 45;
    after(crafted(RedoKind::attach, 0, far, far), "redo record");
    after(crafted(RedoKind::move, 0, 0, far), "redo record");
    after(crafted(RedoKind::reclaim, ~u64{0}, 0, 0), "redo record");
    after(crafted(static_cast<RedoKind>(200), 0, 0, 0), "redo record");
}

TEST(DamagedNodes, ANodeWordOfNoStateOrRecoverer) {
    after([](const era::Tables& t) { t.node(0) = u64{7} | u64{1} << 32; }, "node word");
    after(
        [](const era::Tables& t) {
            t.node(0) = era::NodeWord::make(era::NodeState::recovering, 1, 0xff'ffff).bits;
        },
        "node word");
}

/// What a living node's words are, check says without recovering anything.
TEST(DamagedNodes, CheckShowsTheWordsOfTheLiving) {
    const Directory directory;
    in_child([&] {
        Host host(node_in(directory, 0));
        const era::Tables& t = host.membership()->tables();
        EXPECT_EQ(all_of(host.check()), "");
        t.ref(0, 9) = era::Cell::of(0xffff'fff0).bits;
        t.count(3) = era::CountWord::make(4095, 1, 1).bits;
        const std::string found = all_of(host.check());
        EXPECT_TRUE(contains(found, "no sound node wrote its reference")) << found;
        EXPECT_TRUE(contains(found, "no sound node wrote its count")) << found;
    });
}

}  // namespace
}  // namespace aep
