// Purpose: starts a program of the daemon's with nothing of the daemon's but what it is given.
// Who calls it: start.cpp (the completer); tools/daemon: fencing, the view of corosync.
// Crash rule: a helper sees to its own end; see who starts it.
#pragma once

#include <string>
#include <vector>

namespace aep {

inline constexpr int FIRST_HELPER_FD = 3;

/// How a program begins: with all signals as by default and none blocked, and with no descriptor but 0 to 2 and those below.
struct Helper {
    std::string program;             // a path; without a slash, found by PATH
    std::vector<std::string> words;  // from the program's own name on
    std::vector<int> files{};        // what it has from FIRST_HELPER_FD on; -1: nothing there
    bool own_group = false;          // it and what it starts are a process group
    bool no_terminal = false;        // 0 to 2 are /dev/null
    bool no_environment = false;
};

/// Starts it. Its process id, or -errno: it does not run. The descriptors stay the caller's. Cost: no copy of the caller's
/// memory; it returns when the program's begins.
long start_helper(const Helper& helper);

}  // namespace aep
