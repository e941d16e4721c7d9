// Purpose: every store of what crosses nodes is a place to die, those to the pool, too: afterwards
// no
//          lane, claim or pin is left, every count is that of the references there are, and when
//          everybody has gone nothing is left. The other node is played by this process.
// Who calls it: ctest.
// Crash rule: in children.
#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/era/recovery.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "tests/node/neighbour.hpp"
#include "tests/undo/deaths.hpp"

namespace aep {
namespace {

using namespace test;

constexpr Caller ONE{1, 1};
/// What is wrong in the tables between nodes while no transaction is under way. `leaving`: by a client that has to
/// leave again, which tells it anew.
std::string pool_faults(bool leaving = false) {
    const era::Tables t = era_tables();
    std::map<u32, u32> found;
    std::string text;
    const auto see = [&](const era::Word& word) {
        const era::Cell cell{word.load()};
        if (cell.claimer() != era::NOBODY) text += "a claim is left; ";
        if (cell.holds()) ++found[cell.object()];
    };
    for (u32 node : {HERE, THERE}) {
        for (u32 i = 0; i < t.shape.refs; ++i) see(t.ref(node, i));
        for (u32 i = 0; i < t.shape.slots; ++i) see(t.message(node, 1 - node, i));
        for (u32 i = 0; i < t.shape.lanes; ++i) {
            const era::RedoHead head{t.lane(t.writer(node, i)).redo.head.load()};
            if (head.kind() != era::RedoKind::none) text += "a record is left; ";
        }
    }
    for (u32 i = 0; i < t.shape.objects; ++i) {
        const u32 count = era::CountWord{t.count(i).load()}.count();
        const auto references = found.find(i);
        const u32 expected = references == found.end() ? 0 : references->second;
        if (count != expected) {
            text += "object " + std::to_string(i) + " counts " + std::to_string(count) + " of " +
                    std::to_string(expected) + "; ";
        }
    }
    for (u32 i = 0; i < MAX_LANES; ++i)
        if (lane_taken(i).load() != 0) text += "a lane is left; ";
    for (u32 i = 0; i < context().max_slots; ++i)
        if (pin_of(i) != NO_RECORD) text += "a pin is left; ";
    if (!leaving && t.client(HERE, 1).version.load() % 2 != 0)
        text += "an entry is being changed; ";
    if (t.client(HERE, 1).claim.load() != 0 && share_client(1).inbox.open != 0) text += "a name; ";
    return text;
}

u64 objects_left() {
    const era::Tables t = era_tables();
    u64 left = 0;
    for (u32 i = 0; i < t.shape.objects; ++i) left += t.count(i).load() != 0;
    return left;
}

/// Of this node's, for objects and extents that others may know.
u64 numbers_left() {
    const era::Tables t = era_tables();
    u64 left = 0;
    for (u32 i = 0; i < t.shape.objects; ++i) left += export_of_object(i).load() != NO_RECORD;
    return left;
}

struct Deaths {
    Neighbour& other;
    u64 every_recovery;
    u64 deaths = 0, recovery_deaths = 0;
    std::vector<std::string> faults{};

    /// Everybody goes: what is left then is lost.
    void close() {
        while (perform(ONE, op::Leave{}).status == Status::ok) continue;
        other.drop_all();
        for (u32 i = 0; i < 64; ++i) {
            const u32 slot = host_slot();
            if (perform(Caller{0, slot}, op::Tidy{}).status == Status::miss) break;
        }
    }

    void judge(const Step& step, u64 at, const char* when) {
        Stores& s = test::stores;
        std::string wrong = pool_faults(step.leaves) + walk();
        const usize mark = s.mark();
        if (!s.run([&] { close(); })) wrong += "it does not end; ";
        wrong += pool_faults();
        if (objects_left() != 0 || numbers_left() != 0 || count_shares().exports != 0 ||
            count_shares().holders != 0) {
            wrong += std::to_string(objects_left()) + " objects, " +
                     std::to_string(numbers_left()) + " numbers, " +
                     std::to_string(count_shares().exports) + " exports are left at the end";
        }
        s.take_back(mark);
        if (!wrong.empty()) {
            faults.push_back(std::string(step.name) + ", dead at store " + std::to_string(at) +
                             when + ": " + wrong);
        }
    }

    Status run(const Step& step) {
        Stores& s = test::stores;
        step.enter();
        const auto perform = [&] { step.perform(step.caller); };
        const usize begin = s.mark();
        s.run(perform);
        const u64 count = s.count();
        judge(step, 0, "");
        s.take_back(begin);
        for (u64 at = 1; at <= count; ++at) {
            EXPECT_FALSE(s.run(perform, at)) << step.name;
            ++deaths;
            const usize died = s.mark();
            if (!s.run([&] { recover_slots(step.caller.slot); }))
                faults.push_back(std::string(step.name) + ": its recovery does not end");
            const u64 recovery = s.count();
            judge(step, at, "");
            s.take_back(died);
            for (u64 j = 1; at % every_recovery == 0 && j <= recovery; ++j) {
                s.run([&] { recover_slots(step.caller.slot); }, j);
                ++recovery_deaths;
                s.run([&] { recover_slots(step.caller.slot); });
                judge(step, at, ", and its recovery");
                s.take_back(died);
            }
            s.take_back(begin);
        }
        Status status = Status::ok;
        s.run([&] { status = step.perform(step.caller); });
        return status;
    }
};

/// All that crosses nodes, from this one and to it.
void all_operations(Deaths& all, Neighbour& other) {
    const auto claimed = perform(1, op::ClaimChunks{.count = 1});
    const u64 a = chunk_address(claimed.first);
    const u64 theirs = chunk_address(ChunkIndex{context().chunk_count - 1});
    client_at(1).generation = 1;
    client_at(1).state = static_cast<u32>(ClientState::live);  // one that is gone has nothing
    const auto ok = [&](const Step& step) { EXPECT_EQ(all.run(step), Status::ok) << step.name; };
    const ShareId there{other.id()};
    ok({"open with a name", ONE, op::Open{{"one"}}});
    const u64 here = id_of(1, 1).bits;
    ok({"first send", ONE, op::Send{.object = a, .to = there, .bytes = 64}});
    ok({"second send", ONE, op::Send{.object = a, .to = there, .bytes = 64}});
    ok({"drop of what others have", ONE, op::Drop{.object = a}});
    all.run({"settle in vain", {0, host_slot()}, op::Settle{}});
    test::stores.run([&] { other.drop_all(); });
    all.run({"settle", {0, host_slot()}, op::Settle{}});
    ok({"send away", ONE, op::Send{.object = a + 128, .to = there, .bytes = 64, .drop = true}});
    test::stores.run([&] { other.drop_all(); });
    all.run({"settle what was sent away", {0, host_slot()}, op::Settle{}});
    ok({"make a group", ONE, op::MakeGroup{.block = a + 4096, .bytes = 4096}});
    ok({"extend", ONE, op::ExtendGroup{.group = a + 4096, .extent = a + 8192, .bytes = 4096}});
    ok({"send a group", ONE, op::Send{.object = a + 4096, .to = there}});
    ok({"extend what others know", ONE,
        op::ExtendGroup{.group = a + 4096, .extent = a + 16384, .bytes = 4096}});
    ok({"drop the group", ONE, op::Drop{.object = a + 4096}});
    test::stores.run([&] { other.drop_all(); });
    all.run({"tidy", {0, host_slot()}, op::Tidy{}});
    test::stores.run([&] {
        other.send(0, theirs, here);
        other.send(0, theirs, here);
        other.send(1, theirs + 4096, here, true);
    });
    ok({"first receive", ONE, op::Receive{}});
    ok({"second receive", ONE, op::Receive{.from = there}});
    ok({"receive a group", ONE, op::Receive{}});
    EXPECT_EQ(all.run({"receive nothing", ONE, op::Receive{}}), Status::miss);
    ok({"drop theirs", ONE, op::Drop{.object = theirs}});
    ok({"last drop of theirs", ONE, op::Drop{.object = theirs}});
    all.run({"settle theirs", {0, host_slot()}, op::Settle{}});
    ok({"drop their group", ONE, op::Drop{.object = theirs + 4096}});
    test::stores.run([&] { other.send(2, theirs + 8192, here); });
    all.run({"leave with mail", ONE, op::Leave{}});
    all.run({"tidy the dead one's mail", {0, host_slot()}, op::Tidy{}});
}

TEST(UndoBetweenNodes, EveryStoreOfEveryOperationIsSurvived) {
    between_nodes([](Neighbour& other) {
        Deaths all{other, 7};
        all_operations(all, other);
        for (usize i = 0; i < all.faults.size() && i < 20; ++i) ADD_FAILURE() << all.faults[i];
        std::printf("%llu deaths, %llu in recovery, %zu faults\n",
                    static_cast<unsigned long long>(all.deaths),
                    static_cast<unsigned long long>(all.recovery_deaths), all.faults.size());
        EXPECT_GT(all.deaths, 1000u);
        EXPECT_GT(all.recovery_deaths, 1000u);
    });
}

TEST(UndoBetweenNodes, WithoutTheLogMuchIsLost) {
    between_nodes([](Neighbour& other) {
        undo_log_works = false;
        Deaths all{other, u64{1} << 40};
        all_operations(all, other);
        EXPECT_GT(all.faults.size(), all.deaths / 4);
    });
}

}  // namespace
}  // namespace aep
