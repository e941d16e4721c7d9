// Purpose: every store of every sharing operation within a node is a place to die: before and after
//          each the operation is undone or done, never half; so are the stores of recovery. And
//          without the log all of it is lost, so the test can fail.
// Who calls it: ctest. Operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include <set>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "tests/node/sharing_tables.hpp"
#include "tests/undo/deaths.hpp"

namespace aep {
namespace {

using namespace test;

constexpr Caller ONE{1, 1}, TWO{2, 2}, THREE{3, 3};

/// A client with chunks of its own, not yet taking part.
u64 memory_for(u32 client, u32 chunks) {
    const Reply claimed = perform_node(client, NodeOp::claim_chunks,
                                       {.op = Op{}, .a = chunks, .b = 1, .mask = raw(NO_CHUNK)});
    EXPECT_EQ(claimed.status, Status::ok);
    ++client_at(client).generation;
    return chunk_address(ChunkIndex{static_cast<u32>(claimed.value)});
}

u64 id(u32 client) { return id_of(client, client_at(client).generation.load()).bits; }

ShareRequest named(const char* name) {
    u64 words[4] = {};
    std::memcpy(words, name, std::strlen(name));
    return {words[0], words[1], words[2], words[3]};
}

/// Every operation, on every way through it.
void all_operations(Exhaustion& all) {
    const u64 a = memory_for(1, 5), b = memory_for(2, 5), c = memory_for(3, 2);
    const u64 large = a + CHUNK_SIZE / 2, bytes = CHUNK_SIZE * 3;  // fills two chunks
    const auto ok = [&](const Step& step) {
        const ShareReply reply = all.run(step);
        EXPECT_EQ(reply.status, Status::ok) << step.name;
        return reply;
    };
    ok({"open", ONE, ShareOp::open, named("one")});
    ok({"open", TWO, ShareOp::open, named("a name of many letters")});
    ok({"open without a name", THREE, ShareOp::open, {}});
    ok({"open under another name", TWO, ShareOp::open, named("two")});
    EXPECT_EQ(all.run({"open", THREE, ShareOp::open, named("one")}).status, Status::exists);
    ok({"add records", ONE, ShareOp::add_records, {.a = 900, .b = 901}});
    ok({"watch", TWO, ShareOp::watch, {}});
    ok({"first send", ONE, ShareOp::send, {.a = a, .b = id(2), .mask = 64}});
    ok({"second send", ONE, ShareOp::send, {.a = a, .b = id(2), .mask = 64}});
    ok({"send of a large object", ONE, ShareOp::send, {.a = large, .b = id(2), .mask = bytes}});
    ok({"send by another one", THREE, ShareOp::send, {.a = c, .b = id(2), .mask = 64}});
    ok({"receive from behind", TWO, ShareOp::receive, {.b = id(3)}});
    ok({"receive", TWO, ShareOp::receive, {}});
    ok({"receive of what it has", TWO, ShareOp::receive, {}});
    ok({"receive of a large object", TWO, ShareOp::receive, {}});
    EXPECT_EQ(all.run({"receive of nothing", TWO, ShareOp::receive, {}}).status, Status::miss);
    ok({"reference", TWO, ShareOp::reference, {.a = a, .mask = 64}});
    ok({"reference of a new one", TWO, ShareOp::reference, {.a = b, .mask = 64}});
    ok({"query", TWO, ShareOp::query, {.a = a}});
    ok({"send on", TWO, ShareOp::send, {.a = a, .b = id(3), .mask = 64}});
    ok({"receive third hand", THREE, ShareOp::receive, {}});
    for (int i = 0; i < 3; ++i) ok({"drop", TWO, ShareOp::drop, {.a = a}});
    ok({"drop by the owner", ONE, ShareOp::drop, {.a = a}});
    ok({"last drop by another", THREE, ShareOp::drop, {.a = a}});
    ok({"take returned", ONE, ShareOp::take_returned, {}});
    ok({"drop of a large object", ONE, ShareOp::drop, {.a = large}});
    ok({"last drop of a large object", TWO, ShareOp::drop, {.a = large}});
    ok({"take the large one", ONE, ShareOp::take_returned, {}});
    ok({"last drop by the owner", TWO, ShareOp::drop, {.a = b}});
    // A mailbox that is full.
    for (u32 i = 0; i < MAILBOX_MESSAGES; ++i) {
        perform_share(ONE, ShareOp::send, {.a = a + 128, .b = id(2), .mask = 64});
    }
    EXPECT_EQ(all.run({"full", ONE, ShareOp::send, {.a = a + 128, .b = id(2), .mask = 64}}).status,
              Status::full);
    ok({"receive makes room", TWO, ShareOp::receive, {}});
    // Groups: the second block of client 1's, a root, another one; the writer changes.
    const u64 group = a + 4096;
    ok({"make a group", ONE, ShareOp::group_make, {.a = group, .mask = 4096}});
    ok({"extend", ONE, ShareOp::group_extend, {.a = group, .b = a + 8192, .mask = 4096}});
    ok({"extend by much", ONE, ShareOp::group_extend, {.a = group, .b = large, .mask = bytes}});
    ok({"root", ONE, ShareOp::group_root, {.a = group, .b = a + 8192 + 64, .mask = 64}});
    ok({"another root", ONE, ShareOp::group_root, {.a = group, .b = group + 64, .mask = 64}});
    ok({"send a group", ONE, ShareOp::send, {.a = group + 64, .b = id(3)}});
    ok({"receive a group", THREE, ShareOp::receive, {}});
    ok({"find", THREE, ShareOp::group_find, {.a = group + 64}});
    ok({"hand over", ONE, ShareOp::group_writer, {.a = group, .b = id(3)}});
    ok({"extend by the next",
        THREE,
        ShareOp::group_extend,
        {.a = group, .b = c + 4096, .mask = 64}});
    ok({"drop a group", THREE, ShareOp::drop, {.a = group}});
    ok({"last drop of a group", ONE, ShareOp::drop, {.a = group}});
    while (perform_share(ONE, ShareOp::take_returned, {}).status == Status::ok) continue;
    ok({"make another", ONE, ShareOp::group_make, {.a = group, .mask = 4096}});
    ok({"root of it", ONE, ShareOp::group_root, {.a = group, .b = group + 128, .mask = 64}});
    ok({"no root", ONE, ShareOp::group_root, {.a = group}});
    ok({"extend it", ONE, ShareOp::group_extend, {.a = group, .b = a + 8192, .mask = 4096}});
    ok({"send it", ONE, ShareOp::send, {.a = group, .b = id(3)}});
    ok({"receive it", THREE, ShareOp::receive, {}});
    // Who is dead: the one whose objects others have, then the others.
    const auto leave = [&](Caller who) {
        for (ShareReply reply{}; reply.status == Status::ok;) {
            reply = all.run({"leave", who, ShareOp::leave, {}});
        }
        give_up_chunks(who.client);
    };
    ok({"send to who dies", THREE, ShareOp::send, {.a = c, .b = id(1), .mask = 64}});
    leave(ONE);
    ok({"last drop of an orphan", THREE, ShareOp::drop, {.a = group}});
    leave(TWO);
    leave(THREE);
    EXPECT_EQ(sharing().live_exports, 0u);
    if (undo_log_works) {
        EXPECT_EQ(walk(), "");
    }  // which chunks are freed is seen by the log
}

TEST(Undo, EveryStoreOfEveryOperationIsSurvived) {
    with_tables([](Host&) {
        Exhaustion all;
        all_operations(all);
        EXPECT_EQ(all.faults.size(), 0u);
        for (usize i = 0; i < all.faults.size() && i < 20; ++i) ADD_FAILURE() << all.faults[i];
        std::printf("%llu deaths, %llu in recovery, %llu stores to words that are read\n",
                    static_cast<unsigned long long>(all.deaths),
                    static_cast<unsigned long long>(all.recovery_deaths),
                    static_cast<unsigned long long>(all.stores));
        EXPECT_GT(all.deaths, 1000u);
        EXPECT_GT(all.recovery_deaths, all.deaths);
    });
}

TEST(Undo, WithoutTheLogMuchIsLost) {
    with_tables([](Host&) {
        undo_log_works = false;
        Exhaustion all;
        all.every_recovery = u64{1} << 40;
        all_operations(all);
        std::set<std::string> broken;
        for (const std::string& fault : all.faults) broken.insert(fault.substr(0, fault.find(',')));
        for (const char* name :
             {"first send", "second send", "receive", "drop", "last drop by another",
              "last drop of a group", "extend", "hand over", "leave"}) {
            EXPECT_EQ(broken.count(name), 1u) << name;
        }
    });
}

}  // namespace
}  // namespace aep
