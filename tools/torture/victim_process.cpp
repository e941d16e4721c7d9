// Purpose: see victim_process.hpp.
// Who calls it: the torture's driver.
// Crash rule: see victim_process.hpp.
#include "tools/torture/victim_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "tools/torture/patience.hpp"
#include "tools/torture/point_kill.hpp"

namespace aep::torture {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int START_MS = 10'000;
constexpr int GONE_MS = 5'000;
constexpr int OWN_DEATH_MS = 3'000;

[[noreturn]] void become_victim(const VictimSetup& setup, std::uint64_t seed, const Death& death,
                                unsigned microseconds, int ready) {
    if (death.name == "oom" && setup.oom_group)
        std::ofstream(*setup.oom_group / "cgroup.procs") << getpid() << std::flush;
    dup2(ready, 3);
    become_client(setup, setup.program,
                  {fmt::to_string(setup.threads), fmt::to_string(seed), std::string(death.name),
                   fmt::to_string(microseconds), setup.pause.string()});
}

/// Writes a breakpoint over a one-byte instruction of a process that is stopped and traced.
bool set_breakpoint(pid_t pid, std::uint64_t address) {
    constexpr long BREAKPOINT = 0xcc;
    errno = 0;
    const long word = ptrace(PTRACE_PEEKTEXT, pid, address, 0);
    return errno == 0 && ptrace(PTRACE_POKETEXT, pid, address, (word & ~0xffL) | BREAKPOINT) == 0;
}

}  // namespace

void become_client(const VictimSetup& setup, const std::filesystem::path& program,
                   const std::vector<std::string>& arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const auto pointers_to = [](std::vector<std::string>& all) {
        std::vector<char*> pointers;
        pointers.reserve(all.size() + 1);
        for (std::string& one : all) pointers.push_back(one.data());
        pointers.push_back(nullptr);
        return pointers;
    };
    std::vector<std::string> environment = setup.environment;
    environment.push_back("LD_PRELOAD=" + setup.library.string());
    std::vector<std::string> words{program.string()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    execve(program.c_str(), pointers_to(words).data(), pointers_to(environment).data());
    _exit(97);
}

Victim::Victim(const VictimSetup& setup, std::uint64_t seed, const Death& death,
               unsigned microseconds) {
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    pid_ = fork();
    if (pid_ == 0) become_victim(setup, seed, death, microseconds, ready[1]);
    close(ready[1]);
    if (pid_ > 0) pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
    pollfd wait{ready[0], POLLIN, 0};
    char byte = 0;
    const bool works =
        pid_ > 0 && poll(&wait, 1, START_MS * patience) == 1 && read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    if (works) return;
    if (pid_ > 0) {
        kill(pid_, SIGKILL);
        wait_gone(GONE_MS);
    }
    throw std::runtime_error(fmt::format("a victim did not start (status {})", status_));
}

Victim::~Victim() {
    if (!gone_ && pid_ > 0) {
        kill(pid_, SIGKILL);
        wait_gone(GONE_MS);
    }
    if (pidfd_ >= 0) close(pidfd_);
}

bool Victim::wait_gone(int milliseconds) {
    if (gone_) return true;
    pollfd wait{pidfd_, POLLIN, 0};
    if (poll(&wait, 1, milliseconds * patience) != 1) return false;
    gone_ = waitpid(pid_, &status_, __WALL) == pid_;
    return gone_;
}

bool Victim::end(const Death& death) {
    if (death.by == By::victim) {
        if (wait_gone(OWN_DEATH_MS)) return true;
        kill(pid_, SIGKILL);
        wait_gone(GONE_MS);
        return false;
    }
    if (death.name == "stop-kill") {
        kill(pid_, SIGSTOP);
        waitpid(pid_, &status_, WUNTRACED);
    }
    const int signal = death.name == "sigterm"   ? SIGTERM
                       : death.name == "sigabrt" ? SIGABRT
                                                 : SIGKILL;
    kill(pid_, signal);
    if (death.name == "mrelease") syscall(SYS_process_mrelease, pidfd_, 0);
    return wait_gone(GONE_MS);
}

bool Victim::end_when_at_point(const std::vector<std::uint64_t>& addresses, int milliseconds) {
    const PointKill point(pid_, addresses);
    if (!wait_gone(milliseconds)) {
        kill(pid_, SIGKILL);
        wait_gone(GONE_MS);
    }
    return point.hit();
}

bool Victim::set_breakpoints(const std::vector<std::uint64_t>& addresses) {
    bool set = ptrace(PTRACE_SEIZE, pid_, 0, 0) == 0 && ptrace(PTRACE_INTERRUPT, pid_, 0, 0) == 0 &&
               waitpid(pid_, &status_, __WALL) == pid_ && WIFSTOPPED(status_);
    for (const std::uint64_t address : addresses) set = set && set_breakpoint(pid_, address);
    return set && ptrace(PTRACE_DETACH, pid_, 0, 0) == 0;
}

bool Victim::end_at_point(const std::vector<std::uint64_t>& addresses, int milliseconds) {
    const bool died = set_breakpoints(addresses) && wait_gone(milliseconds);
    if (!died) {
        kill(pid_, SIGKILL);
        wait_gone(GONE_MS);
    }
    return died && WIFSIGNALED(status_) && WTERMSIG(status_) == SIGTRAP;
}

bool Victim::wait_stopped(int milliseconds) {
    const auto end = Clock::now() + std::chrono::milliseconds(milliseconds * patience);
    do {
        if (waitpid(pid_, &status_, WUNTRACED | WNOHANG) == pid_) return WIFSTOPPED(status_);
        usleep(500);
    } while (Clock::now() < end);
    return false;
}

bool Victim::stop_at_point(const std::vector<std::uint64_t>& addresses, int milliseconds) {
    if (set_breakpoints(addresses) && wait_stopped(milliseconds)) return true;
    kill(pid_, SIGKILL);
    wait_gone(GONE_MS);
    return false;
}

}  // namespace aep::torture
