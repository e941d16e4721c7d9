// Purpose: see seen.hpp.
// Who calls it: see seen.hpp.
// Crash rule: see seen.hpp.
#include "aep-lib/provider/seen.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

namespace aep {

pid_t pid_of(int pidfd) {
    std::ifstream facts(fmt::format("/proc/self/fdinfo/{}", pidfd));
    for (std::string line; std::getline(facts, line);)
        if (line.rfind("Pid:", 0) == 0) return std::max(0, std::stoi(line.substr(4)));
    return 0;
}

std::string why_not_seen(pid_t pid, int pidfd) {
    if (pid <= 0) {
        return "the daemon cannot see the process: it is in another pid namespace; start the "
               "daemon "
               "in the client's, in one above, or with --provider rollback, which watches nobody";
    }
    const pid_t found = pidfd >= 0 ? pid_of(pidfd) : 0;
    if (found == pid) return "";
    return fmt::format("process {} is gone{}", pid,
                       found == 0 ? "" : ": another one has its connection");
}

}  // namespace aep
