// Purpose: the commands of `aep`, each returning its exit status.
// Who calls it: cli/main.cpp.
// Crash rule: none needed.
#pragma once

#include <string>
#include <vector>

#include "dsm-core/base/types.hpp"
#include "tools/cli/daemon_client.hpp"

namespace aep {

/// What run and up pass on to a daemon that they start.
struct DaemonArguments {
    std::vector<std::string> words;
};

struct RunOptions {
    std::vector<std::string> program;
    std::string library;
    bool stats = false;
    bool background = false;
    bool require = false;
};

int run_program(const Target& target, const DaemonArguments& daemon, const RunOptions& options);
int up(const Target& target, const DaemonArguments& daemon);
int down(const Target& target, bool force);
/// `over_s`: with what happened a second, in so many seconds from now on; 0: without.
int show_status(const Target& target, double over_s);
int show_clients(const Target& target, double over_s);
int check(const Target& target);
int recover(const Target& target);
int doctor(const Target& target);
/// Somebody has cut the node of that number and generation off: others may recover it.
int node_dead(const Target& target, u32 node, u32 generation);

}  // namespace aep
