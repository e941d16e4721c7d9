// Purpose: kills a process when one of its threads comes to an instruction, without touching its
//          text: by the processor's breakpoint registers. In a context of the kernel's the text is
//          everybody's, and a breakpoint instruction would be a fault of the operation's own.
// Who calls it: a victim's end at a named point.
// Crash rule: the breakpoints go with their descriptors.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace aep::torture {

class PointKill {
  public:
    /// As many addresses as the processor has registers for.
    static constexpr unsigned MOST = 4;

    /// From now on the first thread of the process that comes to one of the addresses sends the
    /// process SIGKILL there. The process is stopped meanwhile. Throws std::runtime_error.
    PointKill(pid_t pid, const std::vector<std::uint64_t>& addresses);
    PointKill(const PointKill&) = delete;
    PointKill& operator=(const PointKill&) = delete;
    ~PointKill();

    /// Whether a thread came there.
    bool hit() const;

  private:
    void watch(pid_t pid, pid_t thread, std::uint64_t address);

    std::vector<int> events_;
};

}  // namespace aep::torture
