// Purpose: aep top: status, what happens a second, and the clients, again and again.
// Who calls it: cli/main.cpp.
// Crash rule: a terminal is put right when the program ends by itself or by a signal that people send.
#pragma once

#include <string>

#include "tools/cli/daemon_client.hpp"

namespace aep {

struct TopOptions {
    double interval_s = 1;
    unsigned count = 0;         // frames; 0: until it is ended
    std::string sort = "held";  // by_name() of a ClientOrder
    std::string filter;         // of a client's name: only those with that in it
};

/// On a terminal a screen that keys change (? tells which), else frame after frame as text, or JSON. Its exit status.
int show_top(const Target& target, const TopOptions& options);

}  // namespace aep
