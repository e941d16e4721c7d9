// Purpose: hosts of several nodes of one pool: who is which node, and what a node finds of its former life.
// Who calls it: ctest. Each host is a process of its own.
// Crash rule: in children.
#include "node/membership.hpp"

#include <thread>

#include "dsm-core/sharing/records.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "node/draining.hpp"
#include "tests/node/fixture.hpp"

namespace aep {
namespace {

using namespace test;

NodeOptions options_of(const Directory& directory, u32 node, const char* home_name) {
    NodeOptions options = options_in(directory, 64 * MiB);
    const std::string home = directory.path() + "/" + home_name;
    mkdir(home.c_str(), 0700);
    options.paths = context_paths("tested", home + "/context", home + "/socket");
    options.pool = directory.path() + "/pool";
    options.nodes.node = node;
    return options;
}

/// Others have recovered the node, but its daemon lives: it does not know yet that it is fenced.
TEST(Membership, TwoDaemonsAreNotOneNode) {
    const Directory directory;
    const Signal fenced, end;
    const pid_t first = start_child([&] {
        Host host(options_of(directory, 0, "first"));
        era_tables().node(0).store(era::NodeWord::make(era::NodeState::free, 1).bits);
        fenced.say();
        end.wait();
    });
    fenced.wait();
    in_child([&] {
        std::string why;
        try {
            const Host host(options_of(directory, 0, "second"));
        } catch (const NodeError& error) {
            why = error.what();
        }
        EXPECT_TRUE(contains(why, "another daemon")) << why;
    });
    end.say();
    EXPECT_EQ(wait_for(first), 0);
    in_child([&] { const Host host(options_of(directory, 0, "second")); });
}

/// Clients of a former life may have died while they said who they are, or in the claim of a name.
TEST(Membership, WhatAFormerLifeSaidIsGone) {
    const Directory directory;
    in_child([&] {
        const Host host(options_of(directory, 0, "first"));
        const era::Tables& t = host.membership()->tables();
        for (u32 i = 0; i < t.shape.clients; ++i) {
            era::DirectoryEntry& entry = t.client(0, i);
            entry.claim.store(1);
            entry.id.store(7);
            entry.attendance.store(9);
            entry.version.store(3);
        }
    });
    in_child([&] {
        Host other(options_of(directory, 1, "other"));
        EXPECT_EQ(other.sweep(0).nodes_recovered, 1u);
    });
    in_child([&] {
        const Host host(options_of(directory, 0, "first"));
        const era::Tables& t = host.membership()->tables();
        for (u32 i = 0; i < t.shape.clients; ++i) {
            const era::DirectoryEntry& entry = t.client(0, i);
            EXPECT_EQ(entry.claim.load(), 0u) << i;
            EXPECT_EQ(entry.id.load(), 0u) << i;
            EXPECT_EQ(entry.attendance.load(), 0u) << i;
            EXPECT_EQ(entry.version.load() % 2, 0u) << i;
        }
    });
}

/// By which others see that it lives.
TEST(Membership, EachSweepIsASignOfLife) {
    const Directory directory;
    in_child([&] {
        Host host(options_of(directory, 0, "first"));
        const era::Word& beat = host.membership()->tables().entry(0).beat;
        for (u64 now = 1; now <= 3; ++now) {
            const u64 before = beat.load();
            host.sweep(now);
            EXPECT_EQ(beat.load(), before + 1);
        }
    });
}

/// As people had it cut off, say. The recovery's end does not hang on what the node looks like afterwards.
TEST(Membership, WhatAKilledDaemonHadBegunToRecoverIsRecovered) {
    const Directory directory;
    in_child([&] {
        Host host(options_of(directory, 0, "first"));
        const era::Tables& t = host.membership()->tables();
        constexpr u32 OTHER = 1, GENERATION = 5;
        era::NodeEntry& entry = t.entry(OTHER);
        entry.boot_id[0] = 0xab;  // of another machine, which nobody has seen be silent
        entry.generation.store(GENERATION);
        entry.word.store(era::NodeWord::make(era::NodeState::recovering, GENERATION,
                                             t.writer(0, t.shape.lanes - 1))
                             .bits);
        EXPECT_EQ(host.sweep(1).nodes_recovered, 1u);
        EXPECT_EQ(era::NodeWord{entry.word.load()}.state(), era::NodeState::free);
    });
}

TEST(Membership, WhoLeavesInOrderNeedsNoRecovery) {
    const Directory directory;
    in_child([&] {
        Host host(options_of(directory, 0, "first"));
        const era::Tables& t = host.membership()->tables();
        ASSERT_TRUE(era::is_live(t, 0));
        host.remove();
        EXPECT_EQ(era::NodeWord{t.node(0).load()}.state(), era::NodeState::free);
    });
}

TEST(Membership, WhoWasDeclaredDeadSharesNothingFromTheNextSweepOn) {
    const Directory directory;
    in_child([&] {
        Host host(options_of(directory, 0, "first"));
        host.sweep(1);
        EXPECT_FALSE(host.fenced());
        era_tables().node(0).store(era::NodeWord::make(era::NodeState::free, 1).bits);
        host.sweep(2);
        EXPECT_TRUE(host.fenced());
        EXPECT_TRUE(contains(said, "declared this one dead")) << said;
    });
}

TEST(Membership, ANodeThatIsDrainedGoesWhenNobodyKeepsIt) {
    const Directory directory;
    in_child([&] {
        const Host host(options_of(directory, 0, "first"));
        const era::Tables& t = host.membership()->tables();
        EXPECT_FALSE(tell_draining(t, 0, 0, 0)) << "nobody has wished it";
        wish_to_drain(t, 0, false);
        EXPECT_FALSE(tell_draining(t, 0, 1, 0)) << "a client lives";
        EXPECT_TRUE(tell_draining(t, 0, 0, 3));
        wish_to_drain(t, 0, true);
        EXPECT_FALSE(tell_draining(t, 0, 0, 3)) << "it is to wait for its objects";
        EXPECT_FALSE(tell_draining(t, 0, 1, 0));
        EXPECT_TRUE(tell_draining(t, 0, 0, 0));
    });
}

TEST(Membership, ToLeaveIsWishedOfOneLife) {
    const Directory directory;
    in_child([&] {
        const Host host(options_of(directory, 0, "first"));
        const era::Tables& t = host.membership()->tables();
        wish_to_drain(t, 0, false);
        EXPECT_TRUE(draining_of(t, 0).wished);
        const u32 next = era::NodeWord{t.node(0).load()}.generation() + 1;
        t.node(0).store(era::NodeWord::make(era::NodeState::live, next).bits);
        EXPECT_FALSE(draining_of(t, 0).wished);
    });
}

TEST(Membership, ANodeThatIsToLeaveTakesNoNewProgram) {
    const Directory directory;
    in_child([&] {
        Host host(options_of(directory, 0, "first"));
        const era::Tables& t = host.membership()->tables();
        wish_to_drain(t, 0, false);
        const Admission refused = host.admit(getpid(), geteuid(), good_ask());
        EXPECT_EQ(refused.answer.error, static_cast<u32>(ESHUTDOWN)) << refused.answer.text;
        wish_to_stay(t, 0);
        EXPECT_EQ(host.admit(getpid(), geteuid(), good_ask()).answer.error, 0u);
    });
}

/// A chunk of a dead node's, in which an object lives to which others refer.
TEST(Membership, AKeptChunkStaysUntilTheLastObjectInItIsGone) {
    const Directory directory;
    in_child([&] {
        Host host(options_of(directory, 0, "first"));
        const u32 chunk = host.pool().tables.chunk_count - 1;
        host.pool().tables.words[chunk].store(KEPT_CHUNK.bits);
        era::ObjectEntry& object = era_tables().object(0);
        object.address.store(chunk_address(ChunkIndex{chunk}));
        object.bytes.store(64);
        object.serial.store(1);
        object.count.store(era::CountWord::make(0, 1, 1).bits);
        host.sweep(1);
        EXPECT_EQ(host.pool().tables.chunk(chunk).bits, KEPT_CHUNK.bits);
        EXPECT_EQ(chunk_owner(chunk).load(), OWNER_NOBODY);
        object.count.store(era::FREE_OBJECT.bits);
        host.sweep(2);
        EXPECT_EQ(host.pool().tables.chunk(chunk).bits, FREE_CHUNK.bits);
        EXPECT_EQ(chunk_owner(chunk).load(), OWNER_NOBODY);
    });
}

/// Another node looks at the same time, and is faster now and then.
TEST(Membership, AKeptChunkThatAnotherNodeHasTakenIsNobodysHere) {
    const Directory directory;
    in_child([&] {
        Host host(options_of(directory, 0, "first"));
        const u32 chunk = host.pool().tables.chunk_count - 1;
        std::atomic<u64>& word = host.pool().tables.words[chunk];
        std::atomic<bool> over{false};
        std::thread other([&] {
            const u64 its = ChunkWord::owned(5, 1).bits;
            while (!over.load()) {
                u64 free = FREE_CHUNK.bits, kept = KEPT_CHUNK.bits;
                word.compare_exchange_strong(free, KEPT_CHUNK.bits);
                if (word.compare_exchange_strong(kept, its)) word.store(KEPT_CHUNK.bits);
            }
        });
        for (u64 now = 1; now <= 500; ++now) host.sweep(now);
        over.store(true);
        other.join();
        EXPECT_EQ(chunk_owner(chunk).load(), OWNER_NOBODY);
    });
}

/// Of an operation of a former host's that was undone: this is all that is left of it.
TEST(Membership, WhatTheHostHasPinnedIsPutRightBeforeItsNextOperation) {
    const Directory directory;
    in_child([&] {
        Host host(options_of(directory, 0, "first"));
        constexpr Caller ONE{1, 1};
        perform(ONE, op::AddRecords{.exports = 100, .holders = 100});
        client_at(1).generation = 1;
        ASSERT_EQ(perform(ONE, op::Open{}).status, Status::ok);
        const u64 object = chunk_address(perform(1, op::ClaimChunks{.count = 1}).first);
        ASSERT_EQ(perform(ONE, op::Reference{.object = object, .bytes = 64}).status, Status::ok);
        u32 index = 0;
        while (export_at(index).address != object) ++index;
        export_at(index).pins.put(1);
        pin_of(host_slot()).put(index);
        host.sweep(1);
        EXPECT_EQ(pin_of(host_slot()).load(), NO_RECORD);
        EXPECT_EQ(export_at(index).pins.load(), 0u);
    });
}

/// With each event of a completer there is a sweep: one that asked for something else each time would never end.
TEST(Membership, ASweepAsksForTheSameUntilItIsDone) {
    const Directory directory;
    in_child([&] {
        Slow slow;
        slow.finish = true;
        Host host(options_of(directory, 0, "first"), slow);
        const era::Tables& t = host.membership()->tables();
        for (const u32 node : {1, 2, 5})
            t.node(node).store(era::NodeWord::make(era::NodeState::free, 1).bits);
        const Slot& slot = slot_at(host_slot());
        std::vector<u32> rings;
        for (u32 i = 1; i <= 7; ++i) {
            EXPECT_TRUE(host.sweep(i).busy);
            EXPECT_TRUE(is_open(slot)) << "nothing was begun";
            EXPECT_FALSE(host.sweep(i).busy);
            EXPECT_FALSE(is_open(slot)) << "begun anew before the reply was read";
            EXPECT_EQ(slot.operations, i);
            rings.push_back(received<op::Tidy>(slot.request).from);
        }
        EXPECT_EQ(rings, (std::vector<u32>{0, 1, 2, 5, 1, 2, 5}));
    });
}

}  // namespace
}  // namespace aep
