// Purpose: see fence.hpp.
// Who calls it: see fence.hpp.
// Crash rule: see fence.hpp.
#include "tools/daemon/fence.hpp"

#include <fmt/format.h>
#include <sys/wait.h>

#include <csignal>
#include <vector>

#include "aep-lib/completer/helper.hpp"
#include "node/node_error.hpp"
#include "node/paths.hpp"

namespace aep {
namespace {

constexpr u64 PAUSE_MS = 2000;  // after a command that has failed

/// Asks pacemaker (tools/corosync/aep-fence-pacemaker.sh).
std::string pacemaker_program() {
    return companion({"aep-fence-pacemaker", "../lib/aep/aep-fence-pacemaker"},
                     "/usr/lib/aep/aep-fence-pacemaker");
}

std::string name_of(const OtherNode& node) {
    return fmt::format("node {} of generation {}", node.node + 1, node.generation);
}

}  // namespace

Fence::~Fence() {
    for (auto& [node, attempt] : attempts_) stop(attempt);
}

void Fence::stop(Attempt& attempt) {
    if (attempt.pid == 0) return;
    kill(-attempt.pid, SIGKILL);
    waitpid(attempt.pid, nullptr, 0);
    attempt.pid = 0;
}

bool Fence::is_under_way(u32 node, u32 generation) const {
    const auto found = attempts_.find(node);
    return found != attempts_.end() && found->second.generation == generation &&
           (found->second.done || found->second.pid != 0);
}

bool Fence::has_cut_off(const OtherNode& node, const std::string& host, u64 counts_ms, u64 now_ms) {
    if (!options_.is_given()) return false;  // people say so: aep node dead
    Attempt& attempt = attempts_[node.node];
    if (attempt.generation != node.generation) {
        stop(attempt);
        attempt = {.generation = node.generation};
    }
    if (attempt.done) return true;
    if (attempt.pid != 0) return ended(attempt, node, now_ms);
    if (now_ms >= attempt.again_ms) start(attempt, node, host, counts_ms, now_ms);
    return false;
}

void Fence::start(Attempt& attempt, const OtherNode& node, const std::string& host, u64 counts_ms,
                  u64 now_ms) {
    std::vector<std::string> words = {"/bin/sh", "-c", options_.command + " \"$@\"", "aep-fence"};
    if (options_.pacemaker) words = {pacemaker_program()};
    words.insert(words.end(),
                 {fmt::format("{}", node.node + 1), fmt::format("{}", node.generation), host});
    if (options_.pacemaker) {
        words.push_back(fmt::format("{}", counts_ms / 1000));
        words.push_back(fmt::format("{}", options_.limit_ms / 1000));
    }
    const long started = start_helper({.program = words[0], .words = words, .own_group = true});
    attempt.began_ms = now_ms;
    if (started < 0) {
        const int error = static_cast<int>(-started);
        return failed(attempt, node, fmt::format("{}: {}", words[0], errno_text(error)), now_ms);
    }
    attempt.pid = static_cast<pid_t>(started);
    log_(LogLevel::warning, fmt::format("{} ({}) is to be cut off: {}", name_of(node), host,
                                        options_.pacemaker ? "by pacemaker" : options_.command));
}

bool Fence::ended(Attempt& attempt, const OtherNode& node, u64 now_ms) {
    int status = 0;
    const pid_t pid = waitpid(attempt.pid, &status, WNOHANG);
    if (pid == 0) {
        if (now_ms - attempt.began_ms < options_.limit_ms) return false;
        stop(attempt);
        failed(attempt, node, fmt::format("no answer for {} ms", options_.limit_ms), now_ms);
        return false;
    }
    attempt.pid = 0;
    if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        failed(attempt, node,
               WIFEXITED(status) ? fmt::format("exit status {}", WEXITSTATUS(status))
                                 : fmt::format("signal {}", WTERMSIG(status)),
               now_ms);
        return false;
    }
    attempt.done = true;
    log_(LogLevel::warning, fmt::format("{} is cut off", name_of(node)));
    return true;
}

void Fence::failed(Attempt& attempt, const OtherNode& node, const std::string& why, u64 now_ms) {
    attempt.pid = 0;
    attempt.again_ms = now_ms + PAUSE_MS;
    ++attempt.failures;
    log_(LogLevel::error, fmt::format("{} could not be cut off, {} times so far: {}; it is not "
                                      "recovered, and that is tried again",
                                      name_of(node), attempt.failures, why));
}

}  // namespace aep
