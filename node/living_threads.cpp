// Purpose: see living_threads.hpp.
// Who calls it: see living_threads.hpp.
// Crash rule: see living_threads.hpp.
#include "node/living_threads.hpp"

#include <fmt/format.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace aep {
namespace {

namespace fs = std::filesystem;

struct Status {
    u32 own = 0;  // 0: it cannot be read, or the thread is gone
    bool lives = false;
    u32 depth = 0;       // how many pid namespaces it is in, seen from ours
    size_t threads = 0;  // of its process
};

Status status_of(const fs::path& thread) {
    Status found;
    std::ifstream file(thread / "status");
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::string word;
        words >> word;
        if (word == "State:") {
            words >> word;
            // The first thread of a process stays as a zombie while another one lives.
            found.lives = word != "Z" && word != "X";
        } else if (word == "Threads:") {
            words >> found.threads;
        } else if (word == "NSpid:") {
            for (; words >> word; ++found.depth) found.own = static_cast<u32>(std::stoul(word));
        }
    }
    return found;
}

/// The numbers that are names there.
std::vector<u32> numbers_in(const fs::path& directory) {
    std::vector<u32> numbers;
    std::error_code failed;
    for (fs::directory_iterator at(directory, failed), end; !failed && at != end;
         at.increment(failed)) {
        const std::string name = at->path().filename();
        if (name.find_first_not_of("0123456789") == std::string::npos)
            numbers.push_back(static_cast<u32>(std::stoul(name)));
    }
    return numbers;
}

/// Whether both processes are known to have memories of their own.
bool are_apart(pid_t a, pid_t b) { return syscall(SYS_kcmp, a, b, KCMP_VM, 0, 0) > 0; }

}  // namespace

bool LivingThreads::Process::may_have(u32 tid) const {
    return !whole || std::find(own.begin(), own.end(), tid) != own.end();
}

std::vector<LivingThreads::Process> LivingThreads::read() {
    std::vector<Process> all;
    for (const u32 number : numbers_in("/proc")) {
        const fs::path path = fmt::format("/proc/{}", number);
        const Status first = status_of(path);
        Process process{static_cast<pid_t>(number), first.depth, false, {}};
        // A thread that ends while they are listed may hide the next one: then fewer are seen.
        size_t seen = 0;
        for (const u32 thread : numbers_in(path / "task")) {
            const Status status = status_of(path / "task" / fmt::to_string(thread));
            if (status.own == 0) continue;
            ++seen;
            if (status.lives) process.own.push_back(status.own);
        }
        if (seen == 0) continue;  // over meanwhile, or not shown to us
        process.whole = seen >= status_of(path).threads;
        all.push_back(std::move(process));
    }
    return all;
}

/// Who shares a process's memory is a descendant of it, and in no pid namespace further out.
bool LivingThreads::is_gone(pid_t pid, u32 tid) {
    const fs::path process = fmt::format("/proc/{}", pid);
    const Status direct = status_of(process / "task" / fmt::to_string(tid));
    if (direct.own == tid && direct.lives) return false;
    if (!all_) all_ = read();
    const u32 depth = status_of(process).depth;
    bool known = false;
    for (const Process& other : *all_) {
        const bool own = other.number == pid;
        known = known || own;
        if (other.depth < depth || !other.may_have(tid)) continue;
        if (own || !are_apart(other.number, pid)) return false;
    }
    return known;
}

}  // namespace aep
