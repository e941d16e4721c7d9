// Purpose: what a group's records say to those who look at them without a lock: which group it is, and who holds it; and many
//          of them.
// Who calls it: ctest. The operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include <set>

#include "dsm-core/sharing/group_ops.hpp"
#include "dsm-core/sharing/records.hpp"
#include "tests/node/sharing_tables.hpp"

namespace aep {
namespace {

using namespace test;

constexpr u64 BLOCK = 64 * KiB;

u64 begin(u32 client) {
    perform(client, op::ClaimChunks{.count = 1});
    client_at(client).generation = 7;
    ask(client, op::Open{});
    return chunk_address(ChunkIndex{first_chunk_of(client)});
}

/// A group's number says that it is one, and the same one still: after 2^32 groups, too, and beside those of others.
TEST(GroupRecords, EachGroupHasANumberOfItsOwn) {
    with_tables([](Host&) {
        std::set<u64> numbers;
        for (const u32 client : {1u, 2u}) {
            u64 at = begin(client);
            for (const u64 before : {u64{0}, (u64{1} << 20) - 1, (u64{1} << 32) - 2}) {
                share_client(client).groups_made = before;
                for (u32 i = 0; i < 3; ++i, at += BLOCK) {
                    const auto made = ask(client, op::MakeGroup{at, BLOCK});
                    ASSERT_EQ(made.status, Status::ok);
                    EXPECT_EQ(made.number, side_at(static_cast<u32>(made.index)).born);
                    numbers.insert(made.number);
                }
            }
        }
        EXPECT_EQ(numbers.size(), 18u);
        EXPECT_EQ(numbers.count(0), 0u);
    });
}

/// Client 2 holds the group of client 1; its tree leads where another one's does, as if it was looked at while it changed.
TEST(GroupRecords, OfOthersTheirOwnReferencesAreCounted) {
    with_tables([](Host&) {
        const u64 group = begin(1);
        begin(2);
        const u32 index = ask(1, op::MakeGroup{group, BLOCK}).index;
        ask(1, op::Send{group, id_of(2, 7)});
        ask(2, op::Receive{});
        ask(1, op::Send{group, id_of(2, 7)});
        ask(2, op::Receive{});
        EXPECT_EQ(references_of(2, index), 2u);
        Logged<u32>& tree = share_client(2).first_reference;
        const u32 own = tree;
        tree.put(share_client(1).first_reference);
        EXPECT_EQ(references_of(2, index), 0u);
        tree.put(own);
        EXPECT_EQ(ask(2, op::Drop{group}).status, Status::ok);
        EXPECT_EQ(ask(2, op::Drop{group}).status, Status::ok);
        tree.put(own);  // it is no holder any more
        EXPECT_EQ(references_of(2, index), 0u);
        tree.put(IS_BRANCH | MAX_HOLDERS);
        EXPECT_EQ(references_of(2, index), 0u);
        tree.put(NO_RECORD);
        EXPECT_EQ(walk(), "");
    });
}

/// It has no number that a message could be counted by yet.
TEST(GroupRecords, WhoSendsItToAnotherNodeIsUnknown) {
    with_tables([](Host&) {
        const u64 group = begin(1);
        const u32 index = ask(1, op::MakeGroup{group, BLOCK}).index;
        EXPECT_EQ(ask(1, op::CountUnknown{.group = group}).unknown, 0u);
        ++export_at(index).pins;
        EXPECT_EQ(ask(1, op::CountUnknown{.group = group}).unknown, 1u);
        --export_at(index).pins;
        EXPECT_EQ(walk(), "");
    });
}

/// Each is a change of its own: all of them together would be more than the log of changes has room for.
TEST(Groups, ManyLargeOnesCanBeLeftAtOnce) {
    with_tables([](Host&) {
        constexpr u32 MANY = 8;
        constexpr u64 SMALL = 64;
        u64 at = begin(1);
        for (u32 i = 0; i < MANY; ++i) {
            const u64 group = at;
            ASSERT_EQ(ask(1, op::MakeGroup{group, SMALL}).status, Status::ok);
            for (u32 n = 0; n < MAX_EXTENTS; ++n)
                ASSERT_EQ(ask(1, op::ExtendGroup{group, at += SMALL, SMALL}).status, Status::ok);
            at += SMALL;
        }
        while (ask(1, op::Leave{}).status == Status::ok) continue;
        EXPECT_EQ(count_shares().groups + count_shares().extents, 0u);
        EXPECT_EQ(count_shares().exports, 0u);
        EXPECT_EQ(walk(), "");
    });
}

}  // namespace
}  // namespace aep
