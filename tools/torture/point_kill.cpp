// Purpose: see point_kill.hpp.
// Who calls it: see point_kill.hpp.
// Crash rule: see point_kill.hpp.
#include "tools/torture/point_kill.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace aep::torture {

PointKill::PointKill(pid_t pid, const std::vector<std::uint64_t>& addresses) {
    // It may be dead by now, which is for others to take note of: then nothing comes to any point.
    siginfo_t info{};
    const id_t id = static_cast<id_t>(pid);
    if (kill(pid, SIGSTOP) != 0 || waitid(P_PID, id, &info, WEXITED | WSTOPPED | WNOWAIT) != 0 ||
        info.si_code != CLD_STOPPED || waitid(P_PID, id, &info, WSTOPPED) != 0)
        return;
    const std::filesystem::path threads = fmt::format("/proc/{}/task", pid);
    for (const auto& entry : std::filesystem::directory_iterator(threads)) {
        const pid_t thread = std::stoi(entry.path().filename());
        for (std::size_t i = 0; i < addresses.size() && i < MOST; ++i)
            watch(pid, thread, addresses[i]);
    }
    kill(pid, SIGCONT);
}

void PointKill::watch(pid_t pid, pid_t thread, std::uint64_t address) {
    perf_event_attr event{};
    event.type = PERF_TYPE_BREAKPOINT;
    event.size = sizeof event;
    event.bp_type = HW_BREAKPOINT_X;
    event.bp_addr = address;
    event.bp_len = sizeof(long);
    event.sample_period = 1;
    event.inherit = 1;  // threads that this one starts
    event.exclude_kernel = 1;
    event.exclude_hv = 1;
    const int fd = static_cast<int>(
        syscall(SYS_perf_event_open, &event, thread, -1, -1, PERF_FLAG_FD_CLOEXEC));
    if (fd < 0 && errno == ESRCH) return;  // it has ended
    if (fd < 0) {
        throw std::runtime_error(
            fmt::format("no hardware breakpoint (perf_event_open): {}", std::strerror(errno)));
    }
    events_.push_back(fd);
    const f_owner_ex owner{F_OWNER_PID, pid};
    if (fcntl(fd, F_SETOWN_EX, &owner) != 0 || fcntl(fd, F_SETSIG, SIGKILL) != 0 ||
        fcntl(fd, F_SETFL, O_ASYNC) != 0) {
        throw std::runtime_error(
            fmt::format("no signal at a breakpoint: {}", std::strerror(errno)));
    }
}

PointKill::~PointKill() {
    for (const int fd : events_) close(fd);
}

bool PointKill::hit() const {
    for (const int fd : events_) {
        std::uint64_t count = 0;
        if (read(fd, &count, sizeof count) == sizeof count && count != 0) return true;
    }
    return false;
}

}  // namespace aep::torture
