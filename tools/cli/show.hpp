// Purpose: what the daemon says, as text for people.
// Who calls it: cli/main.cpp, cli/commands.cpp.
// Crash rule: none needed.
#pragma once

#include <string>

#include "dsm-core/base/types.hpp"
#include "tools/cli/daemon_client.hpp"

namespace aep {

/// With a line's end; `indent` -1: on one line. A path may hold any bytes: what is no UTF-8 is shown as such.
std::string json_text(const Json& json, int indent = 2);
/// To the standard output, at once.
void print(const std::string& text);
void print(const Json& json);
/// "12 MiB", "1.5 GiB".
std::string bytes_text(u64 bytes);
std::string status_text(const Json& status);
/// What it did a second, a line (rates_between).
std::string rates_text(const Json& rates);
/// A line for each client, in that order, under a line of heads.
std::string clients_text(const Json& clients);
std::string findings_text(const Json& findings);

}  // namespace aep
