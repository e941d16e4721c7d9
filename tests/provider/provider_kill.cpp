// Purpose: clients die inside the image in every way that a process can die; every operation is
//          completed and the heap is sound.
// Who calls it: ctest, label provider.
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "tests/provider/victim.hpp"

namespace aep::test {
namespace {

Session* mine = nullptr;  // in a victim: for its handlers

void become_true() {
    execl("/bin/true", "true", nullptr);
    _exit(96);
}

// ---- What a victim prepares before it churns

void when_told(void (*end)()) {
    std::thread([end] {
        while (mine->die == 0) sched_yield();
        end();
    }).detach();
}
void sibling_exits() {
    when_told([] { _exit(0); });
}
void sibling_execs() { when_told(become_true); }
void sibling_faults() {
    when_told([] { *reinterpret_cast<volatile int*>(8) = 0; });
}

void exit_in_handler(int) { _exit(0); }
void exec_in_handler(int) { become_true(); }
void stay_in_handler(int) {
    mine->in_handler = 1;
    for (;;) sched_yield();
}
void return_from_handler(int) { mine->in_handler.fetch_add(1); }
void nest_in_handler(int) { raise(SIGUSR2); }

void handle(int signal, void (*handler)(int), bool own_stack) {
    static char room[64 * KiB];
    stack_t stack{};
    stack.ss_sp = room;
    stack.ss_size = sizeof room;
    sigaltstack(&stack, nullptr);
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = own_stack ? SA_ONSTACK : 0;
    sigaction(signal, &action, nullptr);
}
template <void (*HANDLER)(int), bool OWN_STACK>
void on_signal() {
    handle(SIGUSR1, HANDLER, OWN_STACK);
    handle(SIGUSR2, exit_in_handler, !OWN_STACK);
}

// ---- How the test strikes

template <int SIGNAL>
void send_signal(pid_t victim) {
    kill(victim, SIGNAL);
}
void tell(pid_t) { mine->die = 1; }
void stop_and_kill(pid_t victim) {
    int status = 0;
    kill(victim, SIGSTOP);
    waitpid(victim, &status, WUNTRACED);
    EXPECT_TRUE(WIFSTOPPED(status));
    kill(victim, SIGKILL);
}
void kill_and_reap_memory(pid_t victim) {
    const int fd = static_cast<int>(syscall(SYS_pidfd_open, victim, 0));
    kill(victim, SIGKILL);
    while (syscall(448 /* process_mrelease */, fd, 0) != 0 && errno != ESRCH) {
    }
    close(fd);
}
void kill_in_handler(pid_t victim) {
    kill(victim, SIGUSR1);
    EXPECT_TRUE(soon([] { return mine->in_handler != 0; }));
    kill(victim, SIGKILL);
}
void interrupt_and_kill(pid_t victim) {
    for (u32 i = 1; i <= 3; ++i) {
        kill(victim, SIGUSR1);
        EXPECT_TRUE(soon([i] { return mine->in_handler >= i; }));
    }
    kill(victim, SIGKILL);
}

struct Death {
    const char* name;
    u32 threads;
    void (*prepare)();
    void (*strike)(pid_t);
};
void nothing() {}
[[maybe_unused]] void PrintTo(const Death& death, std::ostream* out) { *out << death.name; }

constexpr Death DEATHS[] = {
    {"SigKill", 1, nothing, send_signal<SIGKILL>},
    {"SigKillOfThreads", 3, nothing, send_signal<SIGKILL>},
    {"SigTerm", 2, nothing, send_signal<SIGTERM>},
    {"SigAbort", 2, nothing, send_signal<SIGABRT>},
    {"RealTimeSignal", 1, nothing, send_signal<40>},
    {"SiblingExits", 2, sibling_exits, tell},
    {"SiblingExecs", 2, sibling_execs, tell},
    {"SiblingFaults", 2, sibling_faults, tell},
    {"StoppedThenKilled", 2, nothing, stop_and_kill},
    {"MemoryReaped", 2, nothing, kill_and_reap_memory},
    {"HandlerExits", 2, on_signal<exit_in_handler, false>, send_signal<SIGUSR1>},
    {"HandlerExitsOnOwnStack", 2, on_signal<exit_in_handler, true>, send_signal<SIGUSR1>},
    {"HandlerExecs", 2, on_signal<exec_in_handler, false>, send_signal<SIGUSR1>},
    {"HandlerExecsOnOwnStack", 2, on_signal<exec_in_handler, true>, send_signal<SIGUSR1>},
    {"KilledInHandler", 1, on_signal<stay_in_handler, false>, kill_in_handler},
    {"KilledInHandlerOnOwnStack", 1, on_signal<stay_in_handler, true>, kill_in_handler},
    {"NestedHandlers", 1, on_signal<nest_in_handler, true>, send_signal<SIGUSR1>},
    {"HandlersReturnThenKilled", 1, on_signal<return_from_handler, true>, interrupt_and_kill},
};

u64 operations() {
    u64 sum = 0;
    for (u32 i = 0; i < MAX_SLOTS; ++i) sum += slot_at(i).operations;
    return sum;
}

class ProviderKill : public ::testing::TestWithParam<Death> {};

TEST_P(ProviderKill, EveryOperationCompletes) {
    AEP_NEED_EBPF();
    using clock = std::chrono::steady_clock;
    constexpr int KILLS = 60;
    const Death death = GetParam();
    Node node;
    mine = node.session;
    u32 open = 0;
    std::minstd_rand random(1);
    std::vector<double> microseconds;
    for (int i = 0; i < KILLS; ++i) {
        const pid_t victim = node.spawn([&] {
            death.prepare();
            for (u32 t = 1; t < death.threads; ++t) churn_on_thread(*node.session, t);
            churn(*node.session, 0);
        });
        const u64 until = operations() + random() % 100;
        ASSERT_TRUE(
            soon([&] { return node.session->ready == death.threads && operations() > until; }));
        const auto struck = clock::now();
        death.strike(victim);
        const int status = wait_for(victim);
        ASSERT_NE(WEXITSTATUS(status), EXHAUSTED);
        const u32 completed = node.recover();
        const std::chrono::duration<double, std::micro> took = clock::now() - struck;
        if (completed != 0) microseconds.push_back(took.count());
        open += completed;
        node.provider->remove_member(static_cast<u32>(victim), CLIENT);
        ASSERT_FALSE(HasFailure()) << "after " << i << " kills";
    }
    std::sort(microseconds.begin(), microseconds.end());
    printf(
        "%s: %d kills, %u open operations, all completed; from the kill to a checked heap %.0f "
        "us\n",
        death.name, KILLS, open, microseconds.empty() ? 0 : microseconds[microseconds.size() / 2]);
    EXPECT_GT(open, 0u);
}

INSTANTIATE_TEST_SUITE_P(Deaths, ProviderKill, ::testing::ValuesIn(DEATHS),
                         [](const auto& each) { return each.param.name; });

// The tests above can fail: without a provider operations stay open.
TEST(ProviderNone, OperationsStayOpen) {
    u32 open = 0;
    for (int i = 0; i < 100 && open == 0; ++i) {
        Node node(Node::With::nothing);
        const pid_t victim = node.spawn([&] { churn(*node.session, 0); });
        ASSERT_TRUE(soon([&] { return operations() > 20; }));
        kill(victim, SIGKILL);
        wait_for(victim);
        open += slot_at(0).sequence % 2;
    }
    EXPECT_GT(open, 0u);
}

}  // namespace
}  // namespace aep::test
