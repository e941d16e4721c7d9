// Purpose: clients that choose the registers and the stack with which the completer goes on: they
//          get nothing by it.
// Who calls it: ctest, label provider.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <fstream>
#include <map>

#include "tests/provider/stepper.hpp"

namespace aep::test {
namespace {

constexpr u64 CMP_REQUEUE = 4;  // FUTEX_CMP_REQUEUE: linux/futex.h and the core share names

std::map<std::string, std::string> status_of(pid_t process) {
    std::ifstream file("/proc/" + std::to_string(process) + "/status");
    std::map<std::string, std::string> found;
    for (std::string line; std::getline(file, line);) {
        const size_t colon = line.find(":\t");
        if (colon != std::string::npos) found[line.substr(0, colon)] = line.substr(colon + 2);
    }
    return found;
}

/// All threads of it.
void expect_powerless(pid_t completer, const std::string& user) {
    const std::string none(16, '0');
    const std::string tasks = "/proc/" + std::to_string(completer) + "/task";
    DIR* directory = opendir(tasks.c_str());
    ASSERT_NE(directory, nullptr);
    int threads = 0;
    while (const dirent* entry = readdir(directory)) {
        if (entry->d_name[0] == '.') continue;
        ++threads;
        auto status = status_of(atoi(entry->d_name));
        for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
            EXPECT_EQ(status[set], none) << set;
        EXPECT_EQ(status["NoNewPrivs"], "1");
        EXPECT_EQ(status["Seccomp"], "2");
        EXPECT_EQ(status["Uid"], user + "\t" + user + "\t" + user + "\t" + user);
        EXPECT_EQ(status["Gid"], user + "\t" + user + "\t" + user + "\t" + user);
        EXPECT_EQ(status["Groups"].find_first_not_of(' '), std::string::npos);
    }
    closedir(directory);
    EXPECT_GT(threads, 2);
}

/// Where the text of the image has these bytes.
u64 gadget(pid_t victim, const ImageInfo& image, const std::string& bytes) {
    std::string text(image.text_end - image.text_begin, '\0');
    const iovec to{text.data(), text.size()};
    const iovec from{reinterpret_cast<void*>(image.text_begin), text.size()};
    EXPECT_EQ(process_vm_readv(victim, &to, 1, &from, 1, 0), static_cast<ssize_t>(text.size()));
    const size_t found = text.find(bytes);
    EXPECT_NE(found, std::string::npos);
    return image.text_begin + found;
}
const std::string SYSTEM_CALL = "\x0f\x05";
const std::string RETURN = "\xc3";

/// A client that is killed inside with the registers that `choose` gives it, as its own tracer can.
/// `bytes`: of the text where it is then.
template <class F>
void die_with(Node& node, const std::string& bytes, F&& choose) {
    Stepper victim(node, [] { traced(NEEDS_ARENA); });
    for (int step = 0; step < 20; ++step) ASSERT_TRUE(victim.step());
    user_regs_struct registers{};
    ptrace(PTRACE_GETREGS, victim.pid(), nullptr, &registers);
    registers.rip = gadget(victim.pid(), node.image, bytes);
    registers.orig_rax = ~0ULL;
    choose(registers);
    ASSERT_EQ(ptrace(PTRACE_SETREGS, victim.pid(), nullptr, &registers), 0);
    victim.kill_it();
    ASSERT_EQ(node.provider->captures()[0].registers.rip, registers.rip);
    ASSERT_EQ(node.provider->captures()[0].registers.rax, registers.rax);
}

/// The rest of the slot's life: given up, as recovery in a poisoned context does.
void give_up(u32 slot) { slot_at(slot).sequence.fetch_add(1); }

struct Attempt {
    const char* name;
    long number;
    u64 a, b, c, d = 0;
};

/// What the tenant's memory holds for them: on the slot's AEP stack, where it is never used.
struct Words {
    char path[128];
    char shell[16];
    char* arguments[2];
};
Words& words() { return *reinterpret_cast<Words*>(stack_of_slot(0)); }

/// One thing that only a process with power over others may do, or that leaves a trace.
std::vector<Attempt> attempts(pid_t bystander, pid_t completer, int socket) {
    const u64 path = reinterpret_cast<u64>(words().path);
    const u64 shell = reinterpret_cast<u64>(words().shell);
    const u64 image_page = CONTEXT_BASE, stack = stack_of_slot(0);
    return {
        {"open", SYS_open, path, O_CREAT | O_RDWR, 0600},
        {"openat", SYS_openat, static_cast<u64>(AT_FDCWD), path, O_CREAT | O_RDWR, 0600},
        {"mkdir", SYS_mkdir, path, 0700, 0},
        {"mknod", SYS_mknod, path, 0600, 0},
        {"execve", SYS_execve, shell, reinterpret_cast<u64>(words().arguments), 0},
        {"setuid", SYS_setuid, 0, 0, 0},
        {"mprotect", SYS_mprotect, stack, OS_PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC},
        {"mmap", SYS_mmap, 0, OS_PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC},
        {"munmap", SYS_munmap, image_page, OS_PAGE_SIZE, 0},
        {"clone", SYS_clone, SIGCHLD, 0, 0},
        {"fork", SYS_fork, 0, 0, 0},
        {"kill", SYS_kill, static_cast<u64>(bystander), SIGKILL, 0},
        {"tgkill of another", SYS_tgkill, static_cast<u64>(bystander), static_cast<u64>(bystander),
         SIGKILL},
        {"tgkill by another signal", SYS_tgkill, static_cast<u64>(completer),
         static_cast<u64>(completer), SIGSTOP},
        {"tgkill of another by its own signal", SYS_tgkill, static_cast<u64>(bystander),
         static_cast<u64>(bystander), SIGUSR2},
        {"ptrace", SYS_ptrace, PTRACE_ATTACH, static_cast<u64>(bystander), 0},
        {"write to a descriptor", SYS_write, STDERR_FILENO, path, 1},
        {"send elsewhere", SYS_sendto, STDERR_FILENO, path, 1},
        {"receive elsewhere", SYS_recvfrom, STDERR_FILENO, path, 1},
        {"write to its socket", SYS_write, static_cast<u64>(socket), path, 1},
        {"descriptors by message", SYS_recvmsg, static_cast<u64>(socket), stack, 0},
        {"prctl", SYS_prctl, PR_SET_DUMPABLE, 1, 0},
        {"unshare", SYS_unshare, CLONE_NEWUSER, 0, 0},
        {"futex requeue", SYS_futex, stack, CMP_REQUEUE, 0},
        {"other ABI", 0x40000000 | SYS_getpid, 0, 0, 0},
    };
}

TEST(ProviderHostile, NothingIsLeftToTakeOver) {
    AEP_NEED_EBPF();
    const gid_t of_the_daemon = 61'999;
    ASSERT_EQ(setgroups(1, &of_the_daemon), 0);
    Node node;
    expect_powerless(node.completer(), "0");
    node.kill_completer();
    constexpr u32 NOBODY = 65534;
    node.start_completer({NOBODY, NOBODY});
    expect_powerless(node.completer(), "65534");
    // Only what its numbers say: the standard ones, the socket, and the lock that it is the only
    // completer by.
    u32 open = 0;
    const std::string fds = "/proc/" + std::to_string(node.completer()) + "/fd";
    DIR* directory = opendir(fds.c_str());
    ASSERT_NE(directory, nullptr);
    while (const dirent* entry = readdir(directory))
        open += entry->d_name[0] != '.' && atoi(entry->d_name) > STDERR_FILENO;
    closedir(directory);
    EXPECT_EQ(open, 2u);
    ASSERT_EQ(setgroups(0, nullptr), 0);
    // It works like that, and a slot that there is not is none of its jobs.
    for (const u32 none : {MAX_SLOTS + 2, 1u << 20, BEGIN_JOB - 1}) node.ask(none);
    Lock& lock = domain_at(CLIENT).arena.lock();
    lock.lock();
    kill_waiting(node, 0, NEEDS_ARENA);
    lock.unlock();
    EXPECT_EQ(node.complete(0).outcome, CompleterOutcome::completed);
}

// Before it has looked at anything that clients write: one that performs waits there to be let go.
TEST(ProviderHostile, NothingIsLeftBeforeItMapsAnything) {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    Node node(Node::With::nothing);
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    const long started =
        start_completer(AEP_COMPLETER_PATH, node.completer_fds(ends[1]), {geteuid(), getegid()});
    close(ends[1]);
    ASSERT_GT(started, 0);
    const auto completer = static_cast<pid_t>(started);
    CompleterReport report{};
    ASSERT_EQ(recv(ends[0], &report, sizeof report, 0), static_cast<ssize_t>(sizeof report));
    EXPECT_EQ(report.outcome, CompleterOutcome::started);
    const auto maps_context = [completer] {
        std::ifstream maps("/proc/" + std::to_string(completer) + "/maps");
        for (std::string line; std::getline(maps, line);) {
            const u64 begin = std::stoull(line, nullptr, 16);
            if (begin >= CONTEXT_BASE && begin < CONTEXT_BASE + 512 * GiB) return true;
        }
        return false;
    };
    EXPECT_FALSE(maps_context());
    auto status = status_of(completer);
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
        EXPECT_EQ(status[set], std::string(16, '0')) << set;
    EXPECT_EQ(status["NoNewPrivs"], "1");
    const CompleterJob begin{BEGIN_JOB};
    ASSERT_EQ(send(ends[0], &begin, sizeof begin, 0), static_cast<ssize_t>(sizeof begin));
    ASSERT_EQ(recv(ends[0], &report, sizeof report, 0), static_cast<ssize_t>(sizeof report));
    EXPECT_EQ(report.outcome, CompleterOutcome::ready);
    EXPECT_TRUE(maps_context());
    expect_powerless(completer, "0");
    close(ends[0]);
    wait_for(completer);
}

// A process of the same user, with as few capabilities as the completer, may not attach to it.
TEST(ProviderHostile, NobodyOfTheSameUserTracesIt) {
    AEP_NEED_EBPF();
    Node node;
    const pid_t completer = node.completer();
    const pid_t other = fork();
    if (other == 0) {
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        __user_cap_data_struct none[2]{};
        if (syscall(SYS_capset, &header, none) != 0) _exit(2);
        char byte;
        const iovec to{&byte, 1}, from{reinterpret_cast<void*>(CONTROL_BASE), 1};
        const bool traced = ptrace(PTRACE_SEIZE, completer, nullptr, nullptr) == 0;
        const bool read = process_vm_readv(completer, &to, 1, &from, 1, 0) == 1;
        const std::string memory = "/proc/" + std::to_string(completer) + "/mem";
        _exit(traced || read || open(memory.c_str(), O_RDWR) >= 0 ? 1 : 0);
    }
    EXPECT_EQ(wait_for(other), 0);
}

TEST(ProviderHostile, ChosenSystemCallsAreNotMade) {
    AEP_NEED_EBPF();
    Node node;
    const pid_t bystander = fork();
    if (bystander == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) pause();
    }
    const std::string path = "/dev/shm/aep-hostile-" + std::to_string(getpid());
    const pid_t completer = node.completer();
    for (const Attempt& attempt :
         attempts(bystander, completer, FIRST_COMPLETER_FD + COMPLETER_FDS - 1)) {
        SCOPED_TRACE(attempt.name);
        die_with(node, SYSTEM_CALL, [&](user_regs_struct& r) {
            const Words prepared = [&] {
                Words w{};
                path.copy(w.path, sizeof w.path - 1);
                std::string("/bin/true").copy(w.shell, sizeof w.shell - 1);
                w.arguments[0] = words().shell;
                return w;
            }();
            node.write_stack(0, 0, &prepared, sizeof prepared);
            r.rax = static_cast<u64>(attempt.number);
            r.rdi = attempt.a;
            r.rsi = attempt.b;
            r.rdx = attempt.c;
            r.r10 = attempt.d;
            r.r8 = r.r9 = 0;
        });
        ASSERT_FALSE(HasFailure());
        const CompleterReport report = node.complete(0);
        EXPECT_EQ(report.outcome, CompleterOutcome::broken);
        EXPECT_EQ(report.signal, static_cast<u32>(SIGSYS));
        EXPECT_NE(access(path.c_str(), F_OK), 0);
        unlink(path.c_str());
        give_up(0);
        // The same process goes on, and is nobody's parent.
        EXPECT_EQ(kill(completer, 0), 0);
        std::ifstream children("/proc/" + std::to_string(completer) + "/task/" +
                               std::to_string(completer) + "/children");
        std::string child;
        EXPECT_FALSE(children >> child);
        ASSERT_FALSE(HasFailure());
    }
    EXPECT_EQ(waitpid(bystander, nullptr, WNOHANG), 0) << "somebody was killed";
    kill(bystander, SIGKILL);
    wait_for(bystander);
    // Others' operations complete as ever.
    Lock& lock = domain_at(CLIENT).arena.lock();
    lock.reset();  // the attackers' have left it held, perhaps
    lock.lock();
    kill_waiting(node, 1, NEEDS_ARENA);
    lock.unlock();
    EXPECT_EQ(node.complete(1).outcome, CompleterOutcome::completed);
}

// Code of the client's own: in the context, which it can write, nothing can be executed.
TEST(ProviderHostile, ChosenReturnAddressExecutesNothing) {
    AEP_NEED_EBPF();
    Node node;
    const std::string path = "/dev/shm/aep-hostile-" + std::to_string(getpid());
    die_with(node, RETURN, [&](user_regs_struct& r) {
        constexpr u64 CODE_AT = 512, CHAIN_AT = 1024;
        Words prepared{};
        path.copy(prepared.path, sizeof prepared.path - 1);
        node.write_stack(0, 0, &prepared, sizeof prepared);
        const u8 code[] = {0x0f, 0x05, 0xf4};  // syscall; hlt
        node.write_stack(0, CODE_AT, code, sizeof code);
        const u64 chain[] = {stack_of_slot(0) + CODE_AT};
        node.write_stack(0, CHAIN_AT, chain, sizeof chain);
        r.rsp = stack_of_slot(0) + CHAIN_AT;
        r.rax = SYS_open;
        r.rdi = reinterpret_cast<u64>(words().path);
        r.rsi = O_CREAT | O_RDWR;
        r.rdx = 0600;
    });
    const CompleterReport report = node.complete(0);
    EXPECT_EQ(report.outcome, CompleterOutcome::broken);
    EXPECT_EQ(report.signal, static_cast<u32>(SIGSEGV));
    EXPECT_NE(access(path.c_str(), F_OK), 0);
    unlink(path.c_str());
}

// All registers and the signal mask by way of a signal frame of the client's: the system call is
// not made either, and the process ends by it, since it cannot be told.
TEST(ProviderHostile, ChosenSignalFrame) {
    AEP_NEED_EBPF();
    Node node;
    const std::string path = "/dev/shm/aep-hostile-" + std::to_string(getpid());
    die_with(node, SYSTEM_CALL, [&](user_regs_struct& r) {
        constexpr u64 FRAME_AT = 4096;
        Words prepared{};
        path.copy(prepared.path, sizeof prepared.path - 1);
        node.write_stack(0, 0, &prepared, sizeof prepared);
        ucontext_t frame{};
        memset(&frame.uc_sigmask, 0xff, sizeof frame.uc_sigmask);
        greg_t* g = frame.uc_mcontext.gregs;
        g[REG_RIP] = static_cast<greg_t>(r.rip);
        g[REG_RSP] = static_cast<greg_t>(stack_of_slot(0) + 8192);
        g[REG_CSGSFS] = 0x2b000000000033;
        g[REG_EFL] = 0x202;
        g[REG_RAX] = SYS_open;
        g[REG_RDI] = static_cast<greg_t>(reinterpret_cast<u64>(words().path));
        g[REG_RSI] = O_CREAT | O_RDWR;
        g[REG_RDX] = 0600;
        node.write_stack(0, FRAME_AT, &frame, sizeof frame);
        r.rax = SYS_rt_sigreturn;
        r.rsp = stack_of_slot(0) + FRAME_AT;
    });
    node.ask(0);
    const int status = wait_for(node.completer());
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << status;
    EXPECT_NE(access(path.c_str(), F_OK), 0);
    unlink(path.c_str());
    node.kill_completer();
}

// As the daemon's death does, whatever an operation did to the thread that would see it.
TEST(ProviderHostile, EndsWithItsDaemon) {
    AEP_NEED_EBPF();
    Node node;
    const pid_t daemon = fork();
    ASSERT_GE(daemon, 0);
    if (daemon == 0) {
        node.kill_completer();
        int ends[2];
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
        const long started =
            start_completer(AEP_COMPLETER_PATH, node.completer_fds(ends[1]), {0, 0});
        CompleterReport report{};
        recv(ends[0], &report, sizeof report, 0);
        kill(static_cast<pid_t>(started), SIGSTOP);  // it cannot look at its socket
        node.session->heaps[0] = reinterpret_cast<Heap*>(started);
        _exit(0);
    }
    node.forget_completer();
    EXPECT_EQ(wait_for(daemon), 0);
    const auto completer = static_cast<pid_t>(reinterpret_cast<long>(node.session->heaps[0]));
    ASSERT_GT(completer, 0);
    EXPECT_TRUE(
        soon([&] { return kill(completer, 0) != 0 || status_of(completer)["State"][0] == 'Z'; }));
    node.session->heaps[0] = nullptr;
}

}  // namespace
}  // namespace aep::test
