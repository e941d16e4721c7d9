// Purpose: what each provider lacks here, as seen by the daemon itself: capabilities are a program
//          file's and a service's matter, not those of whoever asks.
// Who calls it: daemon/main.cpp, before it makes anything, and for `aepd --probe`, which `aep doctor` runs.
// Crash rule: reads only.
#pragma once

#include <string>

namespace aep {

/// {"capabilities": EFFECTIVE, "uid": UID, "kernel": [LINE...], "ebpf": [LINE...]}: what is missing
/// for each, one line each.
std::string probe_providers();

/// What `provider` lacks, in one line; empty: nothing that can be seen before it is started.
std::string missing_for(const std::string& provider);

}  // namespace aep
