// Purpose: see process_facts.hpp.
// Who calls it: the node host, the daemon.
// Crash rule: reads only.
#include "node/process_facts.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <iterator>
#include <sstream>
#include <utility>
#include <vector>

#include "node/unique_fd.hpp"

namespace aep {
namespace {

constexpr std::streamsize LONGEST_LINE = 1 << 20;

/// What the file holds; empty where it cannot be read, as when its process ends between two calls.
std::string read_file(const std::string& path) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string text;
    char part[1024];
    for (ssize_t got; fd && (got = read(fd.get(), part, sizeof part)) > 0;)
        text.append(part, static_cast<size_t>(got));
    return text;
}

/// The fields of /proc/PID/stat from 3 (the state) on; empty: there is no such process.
std::vector<std::string> stat_fields(pid_t pid) {
    const std::string text = read_file(fmt::format("/proc/{}/stat", pid));
    // The name in parentheses may hold anything: fields are counted from the last ')'.
    const size_t end = text.rfind(')');
    if (end == std::string::npos) return {};
    std::istringstream rest(text.substr(end + 1));
    return {std::istream_iterator<std::string>(rest), {}};
}

/// Field `number`, from 3 on; empty: there is no such process, or field.
std::string stat_field(pid_t pid, size_t number) {
    std::vector<std::string> fields = stat_fields(pid);
    return number - 3 < fields.size() ? std::move(fields[number - 3]) : "";
}

}  // namespace

u64 start_time_of(pid_t pid) {
    const std::string field = stat_field(pid, 22);
    return field.empty() ? 0 : std::stoull(field);
}

Relations relations_of(pid_t pid) {
    constexpr size_t PARENT = 4 - 3, THREADS = 20 - 3;
    const std::vector<std::string> fields = stat_fields(pid);
    if (fields.size() <= THREADS) return {};
    return {std::stoi(fields[PARENT]), static_cast<u32>(std::stoul(fields[THREADS]))};
}

char state_of(pid_t pid) {
    const std::string state = stat_field(pid, 3);
    return state.empty() ? '\0' : state[0];
}

bool is_ending(pid_t pid) {
    constexpr u64 EXITING = 4;  // PF_EXITING
    const std::string flags = stat_field(pid, 9);
    return flags.empty() || (std::stoull(flags) & EXITING) != 0;
}

bool is_of_user(pid_t pid, uid_t user) {
    std::istringstream lines(read_file(fmt::format("/proc/{}/status", pid)));
    std::string word;
    while (lines >> word && word != "Uid:") lines.ignore(LONGEST_LINE, '\n');
    for (int i = 0; i < 3; ++i)
        if (uid_t id = 0; lines >> id && id == user) return true;
    return false;
}

std::string name_of(pid_t pid) {
    std::string name = read_file(fmt::format("/proc/{}/comm", pid));
    if (!name.empty() && name.back() == '\n') name.pop_back();
    return name;
}

u64 monotonic_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

}  // namespace aep
