// Purpose: see process_facts.hpp.
// Who calls it: the node host, the daemon.
// Crash rule: reads only.
#include "tools/node/process_facts.hpp"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <sstream>

#include "tools/node/unique_fd.hpp"

namespace aep {
namespace {

/// What the file holds; empty where it cannot be read, as when its process ends between two calls.
std::string read_file(const std::string& path) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string text;
    char part[1024];
    for (ssize_t got; fd && (got = read(fd.get(), part, sizeof part)) > 0;) {
        text.append(part, static_cast<size_t>(got));
    }
    return text;
}

}  // namespace

u64 start_time_of(pid_t pid) {
    const std::string text = read_file("/proc/" + std::to_string(pid) + "/stat");
    // The name in parentheses may hold anything: fields are counted from the last ')'.
    const size_t end = text.rfind(')');
    if (end == std::string::npos) return 0;
    std::istringstream rest(text.substr(end + 1));
    std::string field;
    for (int i = 3; i < 22; ++i) rest >> field;
    u64 value = 0;
    rest >> value;
    return value;
}

std::string name_of(pid_t pid) {
    std::string name = read_file("/proc/" + std::to_string(pid) + "/comm");
    if (!name.empty() && name.back() == '\n') name.pop_back();
    return name;
}

u64 monotonic_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

}  // namespace aep
