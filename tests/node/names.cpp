// Purpose: names between nodes: what other nodes say in their directories decides who gets one. The
//          others are words that the test writes.
// Who calls it: ctest.
// Crash rule: in children.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "dsm-core/sharing/directory.hpp"
#include "tests/node/sharing_tables.hpp"

namespace aep::test {
namespace {

constexpr u32 BEFORE = 0, OURS = 1, AFTER = 2;  // nodes
constexpr char NAME[SHARE_NAME_BYTES] = "wanted";

/// Calls body() in a child that is node 1 of a pool, beside two others that live.
template <class Body>
void with_nodes(Body body) {
    const Directory directory;
    in_child([&] {
        NodeOptions options = options_in(directory, 128 * MiB);
        options.nodes.node = OURS;
        Host host(options);
        const era::Tables t = era_tables();
        for (const u32 node : {BEFORE, AFTER})
            t.node(node).store(era::NodeWord::make(era::NodeState::live, 1).bits);
        client_at(1).generation = 1;
        body();
    });
}

/// What client 1 of that node says.
era::DirectoryEntry& entry_of(u32 node) { return era_tables().client(node, 1); }

void write_name(u32 node, const char* name = NAME) {
    std::memcpy(entry_of(node).name.text, name, SHARE_NAME_BYTES);
}

void claim_at(u32 node) {
    write_name(node);
    entry_of(node).claim.store(1);
}

Status ask_for_name() {
    op::Open open;
    std::memcpy(open.name.text, NAME, sizeof open.name.text);
    return perform(Caller{1, 1}, open).status;
}

/// Another node that decides when it has seen our claim.
class Other {
  public:
    template <class Decision>
    explicit Other(Decision decision)
        : thread_([this, decision] {
              while (entry_of(OURS).claim.load() == 0) continue;
              decided_ = true;
              decision();
          }) {}
    ~Other() { thread_.join(); }
    bool has_decided() const { return decided_; }

  private:
    std::atomic<bool> decided_ = false;
    std::thread thread_;
};

TEST(Names, AreGivenToWhoAsks) {
    with_nodes([] {
        EXPECT_EQ(ask_for_name(), Status::ok);
        EXPECT_EQ(entry_of(OURS).id.load(), id_of(1).bits);
        EXPECT_EQ(entry_of(OURS).claim.load(), 0u);
        EXPECT_STREQ(entry_of(OURS).name.text, NAME);
    });
}

TEST(Names, OfLivingNodesAreTaken) {
    for (const u32 node : {BEFORE, AFTER}) {
        with_nodes([node] {
            write_name(node);
            entry_of(node).id.store(1);
            EXPECT_EQ(ask_for_name(), Status::exists);
            EXPECT_EQ(entry_of(OURS).id.load(), 0u);
            EXPECT_EQ(entry_of(OURS).claim.load(), 0u);
            era_tables().node(node).store(0);
            EXPECT_EQ(ask_for_name(), Status::ok);
        });
    }
}

TEST(Names, WhoComesFirstGetsWhatTwoClaim) {
    with_nodes([] {
        claim_at(BEFORE);
        EXPECT_EQ(ask_for_name(), Status::exists);
        EXPECT_EQ(entry_of(OURS).claim.load(), 0u);
        write_name(BEFORE, "another one, and not what we want");
        EXPECT_EQ(ask_for_name(), Status::ok);
    });
}

TEST(Names, ALaterNodesClaimIsWaitedFor) {
    with_nodes([] {
        claim_at(AFTER);
        const Other other([] { entry_of(AFTER).claim.store(0); });
        Status status;
        do {
            status = ask_for_name();  // it may be in doubt: threads are not scheduled at once
        } while (status == Status::exists);
        EXPECT_EQ(status, Status::ok);
        EXPECT_TRUE(other.has_decided());
    });
    with_nodes([] {
        claim_at(AFTER);
        const Other other([] {
            entry_of(AFTER).id.store(1);
            entry_of(AFTER).claim.store(0);
        });
        do {
            EXPECT_EQ(ask_for_name(), Status::exists);
        } while (!other.has_decided());
    });
}

/// It waits for the other node with nothing locked: meanwhile others of its own node come and go.
TEST(Names, HoldNobodyUpWhileAClaimIsNotDecided) {
    with_nodes([] {
        claim_at(AFTER);
        client_at(2).generation = 1;
        bool passed = false;
        while (!passed) {  // the claim may be given up before this thread is scheduled
            const u64 before = entry_of(OURS).version.load();
            std::thread claimant([] { EXPECT_EQ(ask_for_name(), Status::exists); });
            while (entry_of(OURS).version.load() == before) continue;
            op::Open other;
            std::memcpy(other.name.text, "other", sizeof "other");
            EXPECT_EQ(perform(Caller{2, 2}, other).status, Status::ok);
            passed = entry_of(OURS).claim.load() != 0;
            claimant.join();
        }
    });
}

/// Another thread of the client's claims another name while the first one waits.
TEST(Names, AClaimThatIsAnothersIsNone) {
    with_nodes([] {
        claim_at(AFTER);
        const Other other([] {
            constexpr char ANOTHER[SHARE_NAME_BYTES] = "another";
            begin_claim(1, ANOTHER);
            entry_of(AFTER).claim.store(0);
        });
        Status status;
        do {
            status = ask_for_name();
        } while (!other.has_decided());
        EXPECT_EQ(status, Status::exists);
        EXPECT_STREQ(entry_of(OURS).name.text, "another");
    });
}

/// To claim it anew would be to give way to one that asks for it at the same moment.
TEST(Names, WhoHasOneAndSaysItAgainKeepsIt) {
    for (const u32 asking : {BEFORE, AFTER}) {
        with_nodes([=] {
            EXPECT_EQ(ask_for_name(), Status::ok);
            const u64 id = entry_of(OURS).id.load();
            claim_at(asking);
            EXPECT_EQ(ask_for_name(), Status::ok);
            EXPECT_EQ(entry_of(OURS).id.load(), id);
            EXPECT_EQ(entry_of(OURS).claim.load(), 0u);
        });
    }
}

/// What other nodes say of since when their clients are there; while it changes it says nothing.
TEST(Names, SaySinceWhenTheirClientsAreThere) {
    with_nodes([] {
        const era::Tables t = era_tables();
        const u64 before = signs_of(t, OURS).changes;
        EXPECT_EQ(ask_for_name(), Status::ok);
        EXPECT_NE(signs_of(t, OURS).changes, before);
        op::LookAtPeer::Reply seen;
        EXPECT_TRUE(look_elsewhere(OURS, 1, seen));
        EXPECT_EQ(seen.stays, 1u);
        EXPECT_EQ(seen.id.bits, id_of(1).bits);
        EXPECT_STREQ(seen.name.text, NAME);
        EXPECT_EQ(perform(Caller{1, 1}, op::Open{}).status, Status::ok);
        EXPECT_TRUE(look_elsewhere(OURS, 1, seen));
        EXPECT_EQ(seen.names, 1u);
        while (perform(Caller{1, 1}, op::Leave{}).status == Status::ok) continue;
        EXPECT_TRUE(look_elsewhere(OURS, 1, seen));
        EXPECT_EQ(seen.stays, 2u);
        EXPECT_EQ(seen.died, 1u);
        entry_of(OURS).version.store(entry_of(OURS).version.load() + 1);
        EXPECT_FALSE(look_elsewhere(OURS, 1, seen));
        entry_of(OURS).version.store(entry_of(OURS).version.load() + 1);
        entry_of(OURS).claim.store(1);
        EXPECT_FALSE(look_elsewhere(OURS, 1, seen));
        t.node(BEFORE).store(0);
        EXPECT_EQ(signs_of(t, BEFORE).generation, 0u);
        EXPECT_NE(signs_of(t, AFTER).generation, 0u);
    });
}

TEST(Names, AreNobodysWhileAClaimIsNotDecided) {
    with_nodes([] {
        claim_at(AFTER);
        EXPECT_EQ(ask_for_name(), Status::exists);
        EXPECT_EQ(entry_of(OURS).claim.load(), 0u);
    });
}

}  // namespace
}  // namespace aep::test
