// Purpose: see probe.hpp.
// Who calls it: see probe.hpp.
// Crash rule: see probe.hpp.
#include "tools/daemon/probe.hpp"

#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "aep-lib/provider/ebpf_provider.hpp"
#include "aep-lib/provider/kernel_provider.hpp"

namespace aep {
namespace {

/// The effective capabilities of this process.
u64 capabilities() {
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);)
        if (line.rfind("CapEff:", 0) == 0) return std::stoull(line.substr(7), nullptr, 16);
    return 0;
}

}  // namespace

std::string probe_providers() {
    const nlohmann::ordered_json found{{"capabilities", capabilities()},
                                       {"uid", geteuid()},
                                       {"kernel", missing_for_kernel()},
                                       {"ebpf", missing_for_ebpf()}};
    return found.dump();
}

std::string missing_for(const std::string& provider) {
    std::vector<std::string> lines;
    if (provider == "kernel") lines = missing_for_kernel();
    if (provider == "ebpf") lines = missing_for_ebpf();
    std::string text;
    for (const std::string& line : lines) text += (text.empty() ? "" : "; ") + line;
    return text;
}

}  // namespace aep
