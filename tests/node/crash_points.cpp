// Purpose: ends a host at every named point of its work and proves that the next one goes on: a
//          living client notices nothing, what a dead one held comes back, nothing is wrong. A
//          point that is never reached fails.
// Who calls it: ctest; built with -DAEP_CRASH_POINTS from the host's own sources.
// Crash rule: this is the test of the host's crash rules.
#include "node/crash_points.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "tests/node/fixture.hpp"

namespace aep {
namespace {

using namespace test;

/// What the hook does, shared by all processes of one test.
struct Plan {
    const char* target = nullptr;  // the point to die at
    int nth = 0;                   // at which visit of it
    int visits = 0;
    bool died = false;
};
Plan* plan = nullptr;

void at_point(const char* name) {
    if (plan->target != nullptr && !plan->died && std::strcmp(name, plan->target) == 0 &&
        ++plan->visits == plan->nth) {
        plan->died = true;
        kill(getpid(), SIGKILL);
    }
}

/// All that a host does, every point on the way.
void work(const NodeOptions& options, ClientProcess& neighbour, ClientProcess& victim) {
    crash_point_hook = at_point;
    Host host(options);
    if (neighbour.attach(host).error != 0) return;
    neighbour.wait_ready();
    const AnswerMessage answer = victim.attach(host);
    if (answer.error != 0) return;
    victim.wait_ready();
    victim.kill_it();
    op::ReturnChunk::Reply reply;
    return_for(host, answer.client, bare_chunk_of(answer.client), reply);
    host.recover(answer.client);
    host.return_cached(0, true);
}

/// Where a kill leaves an operation open that nobody can complete.
bool poisons(const char* point) {
    return std::strcmp(point, "recover: poisoned") == 0 ||
           std::strcmp(point, "operation: begun") == 0;
}

/// Goes on after `work` was cut off anywhere, ended by nobody.
void go_on(const NodeOptions& options, ClientProcess& neighbour, ClientProcess& victim) {
    const bool poison = poisons(plan->target);
    victim.kill_it();
    {
        Host host(options);
        host.sweep(0);
        host.return_cached(0, true);
        EXPECT_EQ(host.poisoned(), poison);
        EXPECT_EQ(host.check().size(), poison ? 1u : 0u) << all_of(host.check());
        EXPECT_EQ(host.broken_domains(), 0u) << said;
        for (u32 c = 0; c < context().chunk_count; ++c) {
            const u32 owner = chunk_owner(c).load();
            EXPECT_TRUE(owner == OWNER_NOBODY ||
                        client_at(owner).pid == static_cast<u32>(neighbour.pid()));
        }
        if (!poison) {
            ClientProcess next(
                [](Client& client) { must(client.fill(70, 64) == 70 * 1024, "fill"); });
            next.attach_and_wait(host);
            next.end();
        }
    }
    neighbour.kill_it();
    Host host(options);
    host.sweep(0);
    host.return_cached(0, true);
    EXPECT_EQ(free_chunks(host), host.pool().tables.chunk_count);
    EXPECT_EQ(host.check().size(), poison ? 1u : 0u) << all_of(host.check());
    EXPECT_TRUE(free_chunks_are_clean(host.pool().file.path));
}

/// Whether the point was reached.
bool survives(const char* point, int nth) {
    const Directory directory;
    const NodeOptions options = options_in(directory);
    *plan = {};
    plan->target = point;
    plan->nth = nth;
    const bool left_open = std::strcmp(point, "recover: poisoned") == 0;
    ClientProcess neighbour([](Client& client) { client.fill(70, 48); });
    ClientProcess victim([=](Client& client) {
        client.fill(150, 64);
        client.large(100);
        claim_bare(client, 2);
        if (left_open) client.pretend_inside(3);
    });
    const int status = wait_for(start_child([&] { work(options, neighbour, victim); }));
    EXPECT_TRUE(status == 0 || (plan->died && status == SIGKILL)) << point << ": " << status;
    const bool died = plan->died;
    in_child([&] { go_on(options, neighbour, victim); });
    return died;
}

class NodeCrashPoint : public ::testing::Test {
  protected:
    void SetUp() override {
        void* shared =
            mmap(nullptr, OS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ASSERT_NE(shared, MAP_FAILED);
        plan = new (shared) Plan;
    }
    void TearDown() override { munmap(plan, OS_PAGE_SIZE); }
};

TEST_F(NodeCrashPoint, EveryPointIsSurvived) {
    for (const char* point : NODE_CRASH_POINTS)
        EXPECT_TRUE(survives(point, 1)) << point << " was never reached";
}

TEST_F(NodeCrashPoint, LaterVisitsAreSurvivedToo) {
    for (const char* point :
         {"admit: entry written", "recover: metadata cleared", "recover: one chunk",
          "decay: announced", "decay: punched", "decay: free in the pool"})
        EXPECT_TRUE(survives(point, 2)) << point;
}

/// A client that is killed in the middle of a send, with its lock: somebody's count is
/// one too high, and somebody is to be woken.
void die_half_way(Client& client) {
    client.pretend_half_way(number_of<op::Send>());
    client.slot_entry().owes.store(Owed::make(client.index(), Sleep::arrivals).bits);
}

TEST_F(NodeCrashPoint, ARollbackThatIsCutOffIsRepeated) {
    for (const char* point : ROLLBACK_CRASH_POINTS) {
        const Directory directory;
        const NodeOptions options = options_in(directory);
        ClientProcess victim(die_half_way);
        EXPECT_EQ(wait_for(start_child([&] {
                      Host host(options);
                      victim.attach_and_wait(host);
                      EXPECT_EQ(count_shares().exports, 1u);
                  })),
                  0);
        victim.kill_it();
        *plan = {};
        plan->target = point;
        plan->nth = 1;
        EXPECT_EQ(wait_for(start_child([&] {
                      crash_point_hook = at_point;
                      Host host(options);
                      host.set_provider(Provider::rollback);
                      host.sweep(0);
                  })),
                  SIGKILL)
            << point << " was never reached";
        in_child([&] {
            Host host(options);
            host.set_provider(Provider::rollback);
            host.sweep(0);
            EXPECT_EQ(share_client(0).lock.taken().holder(), SlotLock::NO_SLOT) << point;
            EXPECT_EQ(count_shares().exports, 0u) << point;
            EXPECT_EQ(context().undone.load(), 1u) << point;
            EXPECT_FALSE(host.poisoned()) << point;
            expect_all_back(host);
        });
    }
}

/// A log that no operation wrote is not believed.
TEST_F(NodeCrashPoint, ADamagedUndoLogPoisons) {
    const UndoEntry entries[] = {
        {SHADOW_ENTRY | u64{8} << 56, 0},
        {CONTROL_BASE | u64{8} << 56, 0},
        {reinterpret_cast<u64>(&share_client(0).lock) | u64{4} << 56, 0},
        {reinterpret_cast<u64>(&share_client(0).groups) | u64{3} << 56, 0},
        {(reinterpret_cast<u64>(&share_client(0).groups) + 1) | u64{8} << 56, 0},
        {(CONTROL_BASE + CONTROL_WINDOW - 8) | u64{8} << 56, 0},
        {~u64{0}, ~u64{0}}};
    for (const UndoEntry& entry : entries) {
        const Directory directory;
        in_child([&] {
            Host host(options_in(directory));
            host.set_provider(Provider::rollback);
            ClientProcess victim([&](Client& client) {
                die_half_way(client);
                UndoLog& log = undo_log_of(client.slot());
                log.entries[log.length++] = entry;
            });
            victim.attach_and_wait(host);
            victim.kill_it();
            host.sweep(0);
            EXPECT_TRUE(host.poisoned());
            EXPECT_NE(said.find("undo log is damaged"), std::string::npos) << said;
        });
    }
    const Directory directory;
    in_child([&] {
        Host host(options_in(directory));
        host.set_provider(Provider::rollback);
        ClientProcess victim([](Client& client) {
            die_half_way(client);
            undo_log_of(client.slot()).length = UndoLog::CAPACITY + 1;
        });
        victim.attach_and_wait(host);
        victim.kill_it();
        host.sweep(0);
        EXPECT_TRUE(host.poisoned());
    });
}

/// One recoverer after the other dies, each at the next point.
TEST_F(NodeCrashPoint, ARecoveryKilledAgainAndAgainComesToItsEnd) {
    const Directory directory;
    const NodeOptions options = options_in(directory);
    ClientProcess victim([](Client& client) { client.fill(300, 64); });
    const pid_t first = start_child([&] {
        Host host(options);
        victim.attach_and_wait(host);
    });
    EXPECT_EQ(wait_for(first), 0);
    victim.kill_it();
    for (const char* point : NODE_CRASH_POINTS) {
        const bool in_recovery = std::strncmp(point, "recover: ", 9) == 0 &&
                                 std::strcmp(point, "recover: poisoned") != 0;
        if (!in_recovery && std::strncmp(point, "decay: ", 7) != 0) continue;
        // What the recoverer before did is not done again: some points come once only.
        *plan = {};
        plan->target = point;
        plan->nth = 1;
        const int status = wait_for(start_child([&] {
            crash_point_hook = at_point;
            Host host(options);
            host.sweep(0);
            host.return_cached(0, true);
        }));
        EXPECT_TRUE(status == 0 || status == SIGKILL) << point << ": " << status;
    }
    in_child([&] {
        Host host(options);
        expect_all_back(host);
        EXPECT_TRUE(free_chunks_are_clean(host.pool().file.path));
    });
}

}  // namespace
}  // namespace aep
