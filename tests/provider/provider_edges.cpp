// Purpose: what is captured, what is not, and what the daemon is told: the provider's edges.
// Who calls it: ctest, label provider.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "tests/provider/victim.hpp"

namespace aep::test {
namespace {

TEST(ProviderEdges, WhoIsNotWatchedIsNotCaptured) {
    AEP_NEED_EBPF();
    Node node;
    Domain& dom = domain_at(CLIENT);
    dom.arena.lock().lock();
    const pid_t victim = node.spawn([&] { perform_in_image(0, NEEDS_ARENA); });
    ASSERT_TRUE(soon([&] { return wait_in_image(node, victim, 1); }));
    node.provider->remove_member(static_cast<u32>(victim), CLIENT + 1);  // is not that client's
    node.provider->add_member(static_cast<u32>(victim), CLIENT);
    node.provider->keep_completer(static_cast<u32>(victim));  // is no completer
    node.provider->remove_member(static_cast<u32>(victim), CLIENT);
    kill(victim, SIGKILL);
    wait_for(victim);
    EXPECT_EQ(node.complete(0).outcome, CompleterOutcome::no_capture);
    EXPECT_EQ(slot_at(0).completer, 0u);
}

// The slot's memory is not there for the kernel when the thread is killed: its registers suffice.
TEST(ProviderEdges, SlotThatCannotBeRead) {
    AEP_NEED_EBPF();
    Node node;
    Lock& lock = domain_at(CLIENT).arena.lock();
    lock.lock();
    const pid_t victim = node.spawn([&] {
        std::thread([&] {
            while (node.session->die == 0) sched_yield();
            madvise(reinterpret_cast<void*>(CONTROL_BASE), context().control_bytes, MADV_DONTNEED);
            node.session->in_handler = 1;
            for (;;) pause();
        }).detach();
        perform_in_image(0, NEEDS_ARENA);
    });
    ASSERT_TRUE(soon([&] { return wait_in_image(node, victim, 1); }));
    node.session->die = 1;
    ASSERT_TRUE(soon([&] { return node.session->in_handler != 0; }));
    kill(victim, SIGKILL);
    wait_for(victim);
    lock.unlock();
    EXPECT_EQ(node.provider->captures()[0].sequence_known, 0u);
    EXPECT_EQ(node.complete(0).outcome, CompleterOutcome::completed);
}

// Where a thread was in an earlier operation says nothing of the one that is open now.
TEST(ProviderEdges, ACaptureOfAnOlderSequenceIsNotGoneOnWith) {
    AEP_NEED_EBPF();
    Node node;
    Lock& lock = domain_at(CLIENT).arena.lock();
    lock.lock();
    kill_waiting(node, 0, NEEDS_ARENA);
    lock.unlock();
    Slot& slot = slot_at(0);
    volatile CaptureEntry& capture = node.provider->captures()[0];
    const u32 open = slot.sequence;
    ASSERT_EQ(capture.sequence, open);
    ASSERT_EQ(capture.sequence_known, 1u);
    for (const CaptureKind kind : {CAPTURE_FATAL, CAPTURE_HANDLER}) {
        for (const u32 other : {open - 2, open - 1, open + 2, u32{0}}) {
            capture.kind = kind;
            capture.sequence = other;
            const u64 before = slot.operations;
            EXPECT_EQ(node.complete(0).outcome, CompleterOutcome::no_capture) << other;
            EXPECT_EQ(slot.sequence, open);
            EXPECT_EQ(slot.operations, before);
            EXPECT_EQ(slot.completer, 0u);
        }
    }
    // A handler's capture that does not say of which operation it is may be of any.
    capture.sequence_known = 0;
    EXPECT_EQ(node.complete(0).outcome, CompleterOutcome::no_capture);
    EXPECT_EQ(slot.sequence, open);
    capture.sequence_known = 1;
    capture.sequence = open;
    EXPECT_EQ(node.complete(0).outcome, CompleterOutcome::completed);
    node.check();
}

TEST(ProviderEdges, DoorbellTellsOfDeaths) {
    AEP_NEED_EBPF();
    Node node;
    std::vector<DoorbellRecord> seen;
    const auto drain = [&] {
        seen.clear();
        node.provider->drain([&](const DoorbellRecord& r) { seen.push_back(r); });
    };
    const auto kinds_of = [&](pid_t victim) {
        u32 kinds = 0;
        for (const DoorbellRecord& r : seen) {
            if (r.tgid == static_cast<u32>(victim) && r.client == CLIENT) kinds |= 1u << r.kind;
        }
        return kinds;
    };
    domain_at(CLIENT).arena.lock().lock();
    const pid_t killed = node.spawn([&] { perform_in_image(2, NEEDS_ARENA); });
    ASSERT_TRUE(soon([&] { return wait_in_image(node, killed, 1); }));
    kill(killed, SIGKILL);
    wait_for(killed);
    drain();
    EXPECT_EQ(kinds_of(killed), 1u << DOORBELL_CAPTURED | 1u << DOORBELL_EXITED);
    for (const DoorbellRecord& r : seen)
        if (r.kind == DOORBELL_CAPTURED) EXPECT_EQ(r.slot, 2u);

    const pid_t execed = node.spawn([] { execl("/bin/true", "true", nullptr); });
    wait_for(execed);
    drain();
    EXPECT_EQ(kinds_of(execed), 1u << DOORBELL_EXECED | 1u << DOORBELL_EXITED);
}

sigjmp_buf away;
void jump_away(int) { siglongjmp(away, 1); }

// A handler leaves an operation by a jump; its thread has the slot completed and goes on with it.
TEST(ProviderEdges, JumpOutOfAnOperation) {
    AEP_NEED_EBPF();
    Node node;
    Session& session = *node.session;
    const pid_t victim = node.spawn([&] {
        stack_t stack{};
        static char room[64 * KiB];
        stack.ss_sp = room;
        stack.ss_size = sizeof room;
        sigaltstack(&stack, nullptr);
        struct sigaction action {};
        action.sa_handler = jump_away;
        action.sa_flags = SA_ONSTACK;
        sigaction(SIGUSR1, &action, nullptr);
        static volatile u32 jumps = 0;
        if (sigsetjmp(away, 1) != 0) {
            jumps = jumps + 1;
            session.in_handler = jumps;
            while (session.die < jumps) sched_yield();
        }
        churn(session, 0);
    });
    u32 open = 0;
    constexpr u32 JUMPS = 100;
    for (u32 i = 1; i <= JUMPS; ++i) {
        const u64 until = slot_at(0).operations + i % 37;
        ASSERT_TRUE(soon([&] { return slot_at(0).operations > until; }));
        kill(victim, SIGUSR1);
        ASSERT_TRUE(soon([&] { return session.in_handler == i; }));
        open += node.recover();
        ASSERT_FALSE(HasFailure()) << "jump " << i;
        session.die = i;
    }
    kill(victim, SIGKILL);
    wait_for(victim);
    node.recover();
    EXPECT_GT(open, 0u);
}

// A thread ends without any signal: only its exit tells.
TEST(ProviderEdges, ThreadEndsBySeccomp) {
    AEP_NEED_EBPF();
    Node node;
    Domain& dom = domain_at(CLIENT);
    dom.arena.lock().lock();
    const pid_t victim = node.spawn([&] {
        std::thread([] {
            sock_filter no_futex[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_THREAD),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
            };
            const sock_fprog program{4, no_futex};
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
            perform_in_image(0, NEEDS_ARENA);
            _exit(1);  // not reached
        }).detach();
        for (;;) pause();
    });
    volatile u32& kind = node.provider->captures()[0].kind;
    EXPECT_TRUE(soon([&] { return kind == static_cast<u32>(CAPTURE_FATAL); }));
    EXPECT_EQ(node.provider->captures()[0].signal, 0u);
    EXPECT_EQ(slot_at(0).sequence % 2, 1u);
    dom.arena.lock().unlock();
    EXPECT_EQ(node.complete(0).outcome, CompleterOutcome::completed);
    kill(victim, SIGKILL);
    wait_for(victim);
}

// The init process of a pid namespace ignores what it has no handler for: nothing is fatal then.
TEST(ProviderEdges, InitOfAPidNamespace) {
    AEP_NEED_EBPF();
    Node node;
    Domain& dom = domain_at(CLIENT);
    dom.arena.lock().lock();
    node.in_own_pid_space = true;
    const pid_t victim = node.spawn([&] { perform_in_image(0, NEEDS_ARENA); });
    ASSERT_TRUE(soon([&] { return wait_in_image(node, victim, 1); }));
    kill(victim, SIGTERM);
    ASSERT_TRUE(soon([&] { return wait_in_image(node, victim, 1); }));
    EXPECT_EQ(node.provider->captures()[0].kind, static_cast<u32>(CAPTURE_NONE));
    kill(victim, SIGKILL);
    wait_for(victim);
    EXPECT_EQ(node.provider->captures()[0].kind, static_cast<u32>(CAPTURE_FATAL));
    EXPECT_EQ(node.provider->captures()[0].tgid, static_cast<u32>(victim));
    dom.arena.lock().unlock();
    EXPECT_EQ(node.complete(0).outcome, CompleterOutcome::completed);
}

}  // namespace
}  // namespace aep::test
