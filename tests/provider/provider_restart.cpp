// Purpose: completers die in the middle of a completion, the daemon is away while clients die, an
//          operation breaks: what was captured is neither lost nor completed twice.
// Who calls it: ctest, label provider.
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <random>
#include <vector>

#include "aep-lib/completer/crew.hpp"
#include "dsm-core/context/node_ops.hpp"
#include "tests/provider/stepper.hpp"

namespace aep::test {
namespace {

TEST(ProviderRestart, StuckWorkerStopsNobodyAndItsSuccessorFinishes) {
    AEP_NEED_EBPF();
    Node node;
    Domain& dom = domain_at(CLIENT);
    dom.arena.lock().lock();
    dom.heaps_lock.lock();
    kill_waiting(node, 0, NEEDS_ARENA);
    kill_waiting(node, 1, NEEDS_HEAPS);
    node.ask(0);
    node.ask(1);
    ASSERT_TRUE(soon([&] { return wait_in_image(node, node.completer(), 2); }));
    EXPECT_FALSE(node.report_waits());

    dom.heaps_lock.unlock();
    const CompleterReport second = node.report();
    EXPECT_EQ(second.slot, 1u);
    EXPECT_EQ(second.outcome, CompleterOutcome::completed);

    // A completer that is killed, or left by its daemon, is completed by the next one.
    for (int i = 0; i < 2; ++i) {
        const u32 tid = node.provider->captures()[0].tid;
        i == 0 ? node.kill_completer() : node.leave_completer();
        EXPECT_EQ(node.provider->captures()[0].client, COMPLETER_CLIENT);
        EXPECT_EQ(node.provider->captures()[0].kind, static_cast<u32>(CAPTURE_FATAL));
        EXPECT_NE(node.provider->captures()[0].tid, tid);
        node.start_completer();
        node.ask(0);
        ASSERT_TRUE(soon([&] { return wait_in_image(node, node.completer(), 1); }));
    }
    dom.arena.lock().unlock();
    const CompleterReport first = node.report();
    EXPECT_EQ(first.slot, 0u);
    EXPECT_EQ(first.outcome, CompleterOutcome::completed);
    node.check();

    EXPECT_EQ(node.complete(0).outcome, CompleterOutcome::nothing_open);
}

TEST(ProviderRestart, TwoCompletersAtOnce) {
    AEP_NEED_EBPF();
    Node node;
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    const long second =
        start_completer(AEP_COMPLETER_PATH, node.completer_fds(ends[1]), {geteuid(), getegid()});
    close(ends[1]);
    ASSERT_GT(second, 0);
    // It waits for the first one's end: fcntl(2), whose number is 72.
    ASSERT_TRUE(soon([&] {
        std::ifstream file("/proc/" + std::to_string(second) + "/syscall");
        std::string number;
        file >> number;
        return number == "72";
    }));
    char byte;
    EXPECT_EQ(recv(ends[0], &byte, 1, MSG_DONTWAIT), -1);
    node.kill_completer();
    CompleterReport report{};
    EXPECT_EQ(recv(ends[0], &report, sizeof report, 0), static_cast<ssize_t>(sizeof report));
    EXPECT_EQ(report.outcome, CompleterOutcome::ready);
    close(ends[0]);
    EXPECT_EQ(wait_for(static_cast<pid_t>(second)), 0);
}

/// Whether every worker of the completer has been seen to wait in the image: they take turns, and on
/// a busy machine not all of them are there at the same moment.
bool every_worker_waits(const Node& node) {
    std::set<std::string> seen;
    return soon([&] {
        seen.merge(waiting_in_image(node.image, node.completer()));
        return seen.size() == WORKERS;
    });
}

// More operations wait for a lock than there are workers, and the last one in the queue holds it.
TEST(ProviderRestart, EveryWorkerStuck) {
    AEP_NEED_EBPF();
    Node node;
    static_assert(MAX_SLOTS > 2 * WORKERS);
    const auto& arena = reinterpret_cast<const std::atomic<u32>&>(domain_at(CLIENT).arena.lock());
    Stepper holder(node, [] { traced(NEEDS_ARENA); });  // slot 0
    while (arena.load() == 0) ASSERT_TRUE(holder.step());
    holder.kill_it();
    ASSERT_NE(arena.load(), 0u);
    for (u32 slot = 1; slot < MAX_SLOTS; ++slot) {
        kill_waiting(node, slot, NEEDS_ARENA);
        node.ask(slot);
        node.ask(slot);  // the first one's report answers
    }
    ASSERT_TRUE(every_worker_waits(node));
    EXPECT_FALSE(node.report_waits());
    // Killed with operations in the queue that were left in the middle: the next one has them all.
    node.kill_completer();
    node.start_completer();
    for (u32 slot = 1; slot < MAX_SLOTS; ++slot) node.ask(slot);
    ASSERT_TRUE(every_worker_waits(node));
    EXPECT_FALSE(node.report_waits());
    node.ask(0);
    for (u32 i = 0; i < MAX_SLOTS; ++i) {
        const CompleterReport report = node.report();
        EXPECT_EQ(report.outcome, CompleterOutcome::completed) << "slot " << report.slot;
        EXPECT_EQ(slot_at(report.slot).operations, 1u);
    }
    node.check();
    EXPECT_FALSE(node.report_waits());
}

// An operation that is left again and again is performed once; its steps are counted.
TEST(ProviderRestart, LongOperationsTakeTurns) {
    AEP_NEED_EBPF();
    constexpr u32 CHUNKS = 30'000, LONG = WORKERS + 4;
    Node node(Node::With::provider, 4 * TiB);
    constexpr op::ClaimChunks claim{.count = CHUNKS};
    for (u32 slot = 0; slot < LONG; ++slot) {
        Stepper victim(node, [&] { traced(claim, slot); });
        for (int step = 0; step < 100; ++step) ASSERT_TRUE(victim.step());
        victim.kill_it();
        ASSERT_EQ(slot_at(slot).sequence % 2, 1u);
    }
    for (u32 slot = 0; slot < LONG; ++slot) node.ask(slot);
    for (u32 i = 0; i < LONG; ++i) {
        const CompleterReport report = node.report();
        EXPECT_EQ(report.outcome, CompleterOutcome::completed) << "slot " << report.slot;
        const auto reply = received<op::ClaimChunks::Reply>(slot_at(report.slot).reply);
        EXPECT_EQ(reply.status, Status::ok);
        for (u32 c = 0; c < CHUNKS; ++c) ASSERT_EQ(chunk_owner(raw(reply.first) + c), CLIENT);
    }
    EXPECT_EQ(client_at(CLIENT).chunks, u64{CHUNKS} * LONG);
    // Who comes upon another's run leaves what it has in the cache.
    u64 owned = 0;
    for (u32 c = 0; c < context().chunk_count; ++c) owned += chunk_owner(c) == CLIENT;
    EXPECT_EQ(owned, u64{CHUNKS} * LONG);
}

// Others use the same domain while one is killed, and wait for no longer than its completion.
TEST(ProviderRestart, NeighboursGoOn) {
    AEP_NEED_EBPF();
    Node node;
    constexpr u32 VICTIMS = 3;
    pid_t victims[VICTIMS];
    std::minstd_rand random(5);
    const auto spawn = [&](u32 i) { victims[i] = node.spawn([&] { churn(*node.session, i); }); };
    const auto end = [&](u32 i) {
        kill(victims[i], SIGKILL);
        EXPECT_TRUE(WIFSIGNALED(wait_for(victims[i])));
        node.provider->remove_member(static_cast<u32>(victims[i]), CLIENT);
        const bool open = slot_at(i).sequence % 2 != 0;
        if (open) EXPECT_EQ(node.complete(i).outcome, CompleterOutcome::completed);
        return open;
    };
    for (u32 i = 0; i < VICTIMS; ++i) spawn(i);
    u32 open = 0;
    for (int round = 0; round < 100; ++round) {
        for (u32 i = 0; i < VICTIMS; ++i) {
            const u64 until = slot_at(i).operations + random() % 30;
            ASSERT_TRUE(soon([&] { return slot_at(i).operations > until; }));
        }
        const u32 one = static_cast<u32>(random() % VICTIMS);
        open += end(one);
        ASSERT_FALSE(HasFailure()) << "round " << round;
        spawn(one);
    }
    for (u32 i = 0; i < VICTIMS; ++i) end(i);
    node.check();
    printf("100 kills beside running neighbours, %u open operations\n", open);
}

TEST(ProviderRestart, Latency) {
    AEP_NEED_EBPF();
    using clock = std::chrono::steady_clock;
    using microseconds = std::chrono::duration<double, std::micro>;
    Node node;
    std::vector<double> whole, completion;
    for (int i = 0; i < 200; ++i) {
        Stepper victim(node, [] { traced(NEEDS_ARENA); });
        for (int step = 0; step < 20; ++step) ASSERT_TRUE(victim.step());
        const auto struck = clock::now();
        victim.kill_it();
        const auto dead = clock::now();
        ASSERT_EQ(node.complete(0).outcome, CompleterOutcome::completed);
        const auto completed = clock::now();
        whole.push_back(microseconds(completed - struck).count());
        completion.push_back(microseconds(completed - dead).count());
    }
    std::sort(whole.begin(), whole.end());
    std::sort(completion.begin(), completion.end());
    printf(
        "kill to completed: p50 %.0f us, p99 %.0f us; of it from the request on: p50 %.0f us, p99 "
        "%.0f us\n",
        whole[100], whole[198], completion[100], completion[198]);
}

// One long operation, whose steps are counted, goes through many completers' hands.
TEST(ProviderRestart, CompletersKilledAtRandom) {
    AEP_NEED_EBPF();
    constexpr u32 CHUNKS = 100'000;
    std::minstd_rand random(3);
    u32 killed = 0, inside = 0;
    for (int i = 0; i < 100 && inside < 10; ++i) {
        Node node(Node::With::provider, 512 * GiB);
        Slot& slot = slot_at(0);
        Stepper victim(node, [&] { traced(op::ClaimChunks{.count = CHUNKS}); });
        for (int step = 0; step < 100; ++step) ASSERT_TRUE(victim.step());
        victim.kill_it();
        u32 claimed = 0;  // the first ones are, in their order
        const auto count_claimed = [&] {
            while (chunk_owner(claimed) == CLIENT) ++claimed;
            return claimed;
        };
        while (slot.sequence % 2 != 0 && killed < 1000) {
            node.ask(0);
            const u64 until = count_claimed() + random() % 20'000;
            while (slot.sequence % 2 != 0 && count_claimed() < until)
                __builtin_ia32_pause();  // giving up the processor would take too long
            node.kill_completer();
            ++killed;
            inside +=
                slot.sequence % 2 != 0 && node.provider->captures()[0].client == COMPLETER_CLIENT;
            node.start_completer();
        }
        // Done once: not one chunk more or less.
        const auto reply = received<op::ClaimChunks::Reply>(slot.reply);
        EXPECT_EQ(reply.status, Status::ok);
        EXPECT_EQ(client_at(CLIENT).chunks, CHUNKS);
        for (u32 c = 0; c < CHUNKS; ++c) ASSERT_EQ(chunk_owner(raw(reply.first) + c), CLIENT);
        ASSERT_FALSE(HasFailure());
    }
    printf("%u completers killed, %u of them inside the image\n", killed, inside);
    EXPECT_GT(inside, 0u);
}

TEST(ProviderRestart, ClientsDieWhileTheDaemonIsAway) {
    AEP_NEED_EBPF();
    Node node;
    u32 open = 0;
    for (int i = 0; i < 20; ++i) {
        const pid_t victim = node.spawn([&] {
            churn_on_thread(*node.session, 1);
            churn(*node.session, 0);
        });
        ASSERT_TRUE(soon([&] { return node.session->ready == 2; }));
        node.leave_provider();
        kill(victim, SIGKILL);
        wait_for(victim);
        node.enter_provider();
        open += node.recover();
        node.provider->remove_member(static_cast<u32>(victim), CLIENT);
        ASSERT_FALSE(HasFailure());
    }
    EXPECT_GT(open, 0u);
}

TEST(ProviderRestart, AnotherBuildsPinsAreReplaced) {
    AEP_NEED_EBPF();
    EbpfPlan plan;
    plan.directory = pins_of_user() + "/replaced-" + std::to_string(getpid());
    plan.max_slots = 4;
    plan.max_members = 4;
    const auto marked = [&plan](bool mark) {
        auto provider = open_ebpf_provider(plan);
        EXPECT_TRUE(provider) << provider.error();
        volatile __u64& word = (*provider)->captures()[3].reserved2[0];
        const bool was = word != 0;
        if (mark) word = 1;
        return was;
    };
    EXPECT_FALSE(marked(true));
    EXPECT_TRUE(marked(true));  // found again
    plan.text_end = 4096;
    EXPECT_FALSE(marked(true));  // replaced
    ASSERT_EQ(unlink((plan.directory + "/on_exit").c_str()), 0);
    EXPECT_FALSE(marked(false));  // incomplete
    EXPECT_EQ(remove_pins(plan.directory), "");
    EXPECT_NE(access(plan.directory.c_str(), F_OK), 0);
    EXPECT_EQ(remove_pins(plan.directory), "");
}

TEST(ProviderRestart, BrokenOperationIsReportedAndTheCompleterGoesOn) {
    AEP_NEED_EBPF();
    Node node;
    Domain& dom = domain_at(CLIENT);
    dom.arena.lock().lock();
    kill_waiting(node, 0, NEEDS_ARENA);
    Registers& r = node.provider->captures()[0].registers;
    const u64 rip = r.rip, rsp = r.rsp;
    r = {};
    r.rip = rip;
    r.rsp = rsp;
    const CompleterReport broken = node.complete(0);
    EXPECT_EQ(broken.outcome, CompleterOutcome::broken);
    EXPECT_EQ(broken.signal, static_cast<u32>(SIGSEGV));
    EXPECT_GE(broken.rip, node.image.text_begin);
    EXPECT_LT(broken.rip, node.image.text_end);

    kill_waiting(node, 1, NEEDS_ARENA);
    dom.arena.lock().unlock();
    EXPECT_EQ(node.complete(1).outcome, CompleterOutcome::completed);
}

}  // namespace
}  // namespace aep::test
