// Purpose: one victim process of the torture: started on our heap, ended in one of the known ways.
// Who calls it: the torture's driver.
// Crash rule: a victim is killed with the driver (PR_SET_PDEATHSIG); its cgroup is removed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tools/torture/deaths.hpp"

namespace aep::torture {

/// What every victim is started with.
struct VictimSetup {
    std::filesystem::path program;         // aep-torture-victim
    std::filesystem::path library;         // libaepmalloc.so
    std::vector<std::string> environment;  // NAME=VALUE, beside LD_PRELOAD
    std::filesystem::path pause;           // see pause.hpp; the driver has made it
    unsigned threads = 3;
    std::optional<std::filesystem::path> oom_group;  // a memory cgroup with a small limit
};

/// Becomes that program, as a client under the library, with `arguments` after its name. For a child after a fork; it dies with
/// its parent. Does not return: the status is 97 if it cannot be.
[[noreturn]] void become_client(const VictimSetup& setup, const std::filesystem::path& program,
                                const std::vector<std::string>& arguments);

class Victim {
  public:
    /// Starts one and waits until its threads work, 10 s at most. Throws std::runtime_error if it
    /// does not come so far. It dies by itself `microseconds` later if the death is the victim's.
    Victim(const VictimSetup& setup, std::uint64_t seed, const Death& death, unsigned microseconds);
    Victim(const Victim&) = delete;
    Victim& operator=(const Victim&) = delete;
    ~Victim();

    pid_t pid() const { return pid_; }
    /// Ends it from outside by its death. For By::victim it only waits, and kills it when it has
    /// not died by itself after 3 s: false then.
    bool end(const Death& death);
    /// Kills it when a thread comes to one of the addresses, at most PointKill::MOST. False: none
    /// came within `milliseconds`; it is killed all the same.
    bool end_when_at_point(const std::vector<std::uint64_t>& addresses, int milliseconds);
    /// Puts a breakpoint over the instruction at each of the addresses (a nop): the first thread
    /// that comes there dies of it, and the process with it. False: none came within
    /// `milliseconds`; it is killed all the same.
    bool end_at_point(const std::vector<std::uint64_t>& addresses, int milliseconds);
    /// The same, of a victim whose death is "stop": it is stopped by that, in the middle of what all its threads do. True: it
    /// is. False: it has been killed.
    bool stop_at_point(const std::vector<std::uint64_t>& addresses, int milliseconds);
    /// The exit status as wait(2) gives it, after the end.
    int status() const { return status_; }

  private:
    bool set_breakpoints(const std::vector<std::uint64_t>& addresses);
    bool wait_stopped(int milliseconds);
    bool wait_gone(int milliseconds);

    pid_t pid_ = -1;
    int pidfd_ = -1;
    int status_ = 0;
    bool gone_ = false;
};

}  // namespace aep::torture
