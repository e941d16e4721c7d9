// Purpose: aep metrics: a context's counters for monitoring systems, in the text format that Prometheus and OpenTelemetry
//          collectors read, once or over HTTP.
// Who calls it: cli/main.cpp.
// Crash rule: none needed: the daemon knows nothing of it. A socket that a killed one leaves is replaced by the next.
#pragma once

#include <string>

#include "tools/cli/daemon_client.hpp"

namespace aep {

/// Prints them (`listen` empty), or serves them at /metrics: at a port of this machine ("9753"), at HOST:PORT (an address),
/// or at a socket, by its path, that this user alone may use; until SIGTERM or SIGINT. Its exit status. Each scrape asks
/// the daemon once. Throws NodeError (EINVAL: `listen` is none of these).
int metrics(const Target& target, const std::string& listen);

}  // namespace aep
