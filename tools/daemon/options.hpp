// Purpose: what the daemon is told on its command line.
// Who calls it: daemon/main.cpp.
// Crash rule: none needed.
#pragma once

#include <optional>
#include <string>

#include "node/node_options.hpp"
#include "tools/daemon/fence.hpp"

namespace aep {

struct DaemonOptions {
    NodeOptions node;
    std::string provider = "auto";
    FenceOptions fence;          // how nodes are cut off that corosync has lost
    u64 completion_ms = 10'000;  // how long one operation of a dead thread may take
    bool background = false;
    bool probe = false;  // only say what providers lack
    std::string log_level = "info";
    std::string log_file;  // empty: fd 2; in the background, `log` beside the socket
};

/// Parses the command line. Not 0: the process should exit with `exit_code`, all is said.
std::optional<DaemonOptions> parse_daemon_options(int argc, char** argv, int& exit_code);

}  // namespace aep
