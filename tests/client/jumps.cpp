// Purpose: signal handlers that jump out of the allocator at every system call that it makes: what
//          the thread held is given back, nothing stands in the way of the next request, and the
//          process joins its context all the same.
// Who calls it: CTest (client_jumps).
// Crash rule: fixture.hpp; a child that waits for ever is ended by its alarm.
#include <dirent.h>
#include <setjmp.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include <functional>

#include "shim/driver/slow_path.hpp"
#include "shim/sys/process_lock.hpp"
#include "tests/client/fixture.hpp"

namespace aep::test {
namespace {

sigjmp_buf away;
void jump_away(int) { siglongjmp(away, 1); }

int open_descriptors() {
    int count = 0;
    DIR* d = opendir("/proc/self/fd");
    while (readdir(d) != nullptr) ++count;
    closedir(d);
    return count;
}

/// What a child does: `before`, then `disturbed`, out of which the handler may jump, then `after`.
struct Parts {
    std::function<void()> before, disturbed, after;
};

/// As a program's own calls do: what the interrupted frames left is no longer there.
[[gnu::noinline]] void use_the_stack() {
    char room[64 * KiB];
    explicit_bzero(room, sizeof room);
}

/// Until the tracer goes on. By one call: raise() makes several.
void stop() { syscall(SYS_tgkill, getpid(), gettid(), SIGSTOP); }

[[noreturn]] void be_disturbed(const Parts& parts) {
    alarm(20);
    parts.before();
    struct sigaction action {};
    action.sa_handler = jump_away;
    sigaction(SIGUSR1, &action, nullptr);
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    if (sigsetjmp(away, 1) == 0) {
        stop();
        parts.disturbed();
    }
    use_the_stack();
    ::signal(SIGUSR1, SIG_IGN);
    stop();
    parts.after();
    _exit(::testing::Test::HasFailure() ? 1 : 0);
}

/// Sends a child its signal when it returns from system call `moment` of the disturbed part. False:
/// there were not so many.
bool jump_at(u32 moment, const Parts& parts) {
    const pid_t child = fork();
    if (child == 0) be_disturbed(parts);
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSTOPPED(status)) << "before it began";
    if (!WIFSTOPPED(status)) return false;
    ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    u32 stops = 0;
    long signal = 0;
    for (bool disturbed = true; disturbed;) {
        ptrace(PTRACE_SYSCALL, child, nullptr, signal);
        waitpid(child, &status, 0);
        if (!WIFSTOPPED(status)) break;
        const int why = WSTOPSIG(status);
        signal = why == SIGUSR1 ? SIGUSR1 : 0;
        disturbed = why != SIGSTOP;
        // Each call stops at its begin and at its end.
        if (why == (SIGTRAP | 0x80) && ++stops == 2 * moment) signal = SIGUSR1;
    }
    if (WIFSTOPPED(status)) {
        ptrace(PTRACE_DETACH, child, nullptr, nullptr);
        status = wait_for(child);
    }
    EXPECT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
    EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
    return stops >= 2 * moment;
}

/// Out of each of them in turn; how many there are.
u32 jump_everywhere(const Parts& parts) {
    u32 moment = 1;
    while (jump_at(moment, parts)) {
        if (::testing::Test::HasFailure()) {
            ADD_FAILURE() << "by a jump at the end of system call " << moment;
            break;
        }
        ++moment;
    }
    return moment - 1;
}

/// What the interrupted call was about to hand out may be lost, and no more.
void expect_usable() {
    for (const usize size : {usize{100}, usize{20'000}, usize{300'000}, 9 * MiB}) {
        void* p = allocate(size);
        ASSERT_NE(p, nullptr) << size;
        EXPECT_TRUE(owns(p)) << "emergency memory";
        memset(p, 1, size);
        deallocate(p);
    }
    EXPECT_EQ(detail::held_locks, 0u);
    EXPECT_EQ(slow_frame, nullptr);
    CheckReport report;
    EXPECT_TRUE(check_domain(domain(), report, CheckMoment::underway))
        << report.broken << "; " << report.kind << " " << std::hex << report.object;
}

TEST(Jumps, OutOfTheVeryFirstAllocationInAContext) {
    const Host host;
    int before = 0;
    const u32 calls = jump_everywhere({.before =
                                           [&] {
                                               host.configure();
                                               before = open_descriptors();
                                           },
                                       .disturbed = [] { allocate(100); },
                                       .after =
                                           [&] {
                                               expect_usable();
                                               EXPECT_TRUE(this_client.attached);
                                               EXPECT_TRUE(heap_in_context.load());
                                               EXPECT_EQ(open_descriptors(), before);
                                           }});
    EXPECT_GT(calls, 50u);
    // All of them went, and what they had is taken back.
    host.in_client([] { EXPECT_EQ(client_at(this_client.index).chunks.load(), 0u); });
}

TEST(Jumps, OutOfTheStartInPrivateMode) {
    const u32 calls = jump_everywhere({.before = [] { process_configure(nullptr, {}); },
                                       .disturbed = [] { process_start(); },
                                       .after = expect_usable});
    EXPECT_GT(calls, 2u);
}

TEST(Jumps, OutOfOperationsInTheSpareSlot) {
    const Host host;
    const u32 calls = jump_everywhere({.before =
                                           [&] {
                                               host.configure();
                                               deallocate(allocate(100));
                                               give_thread_slot();
                                               ASSERT_EQ(thread_slot, nullptr);
                                           },
                                       .disturbed = [] { deallocate(allocate(300'000)); },
                                       .after =
                                           [] {
                                               ASSERT_EQ(thread_slot, nullptr);
                                               expect_usable();
                                               std::thread(expect_usable).join();
                                           }});
    EXPECT_GT(calls, 2u);  // each looks who it is at least
}

}  // namespace
}  // namespace aep::test
