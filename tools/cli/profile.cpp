// Purpose: see profile.hpp.
// Who calls it: see profile.hpp.
// Crash rule: none needed.
#include "tools/cli/profile.hpp"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "node/node_error.hpp"
#include "node/unique_fd.hpp"
#include "shim/sys/environment.hpp"
#include "tools/cli/flame_graph.hpp"
#include "tools/cli/profiled_process.hpp"
#include "tools/cli/show.hpp"

namespace aep {

namespace {

constexpr double USUAL_SECONDS = 10;

bool is_number(const std::string& text) {
    return !text.empty() && text.size() < 10 &&
           std::all_of(
               text.begin(), text.end(), [](char c) { return '0' <= c && c <= '9'; });
}

/// Until so many seconds have passed, or somebody interrupts it. Throws: the process ended.
void wait_for(int pid, double seconds) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    const UniqueFd interrupted(signalfd(-1, &signals, SFD_CLOEXEC));
    const UniqueFd ended(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    pollfd both[] = {{interrupted.get(), POLLIN, 0}, {ended.get(), POLLIN, 0}};
    if (poll(both, 2, static_cast<int>(std::ceil(seconds * 1000))) > 0 && both[1].revents != 0)
        throw NodeError(
            ESRCH,
            fmt::format("process {} ended before its profile was read: let it write one itself "
                        "(AEP_PROFILE)",
                        pid));
}

void write_file(const std::string& path, const std::string& text) {
    const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (fd.get() < 0)
        throw NodeError(errno, path + ": " + errno_text(errno) +
                                   (errno == EEXIST ? ": name another file" : ""));
    for (size_t at = 0; at < text.size();) {
        const ssize_t n = write(fd.get(), text.data() + at, text.size() - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) throw NodeError(errno, path + ": " + errno_text(errno));
        at += static_cast<size_t>(n);
    }
}

ProfileData profile_of_process(int pid, const ProfileOptions& options) {
    usize rate = 0;
    if (!options.rate.empty() &&
        (!parse_size(options.rate.c_str(), rate) || rate == 0 || rate > TiB))
        throw NodeError(EINVAL, "--rate " + options.rate + ": expected bytes, or with K, M, G");
    ProfiledProcess process(pid);
    const bool was_on = process.is_on();
    if (!was_on || rate != 0) process.switch_on(rate);
    wait_for(pid, options.seconds.value_or(was_on ? 0 : USUAL_SECONDS));
    ProfileData data = process.read();
    if (!was_on && !options.keep) process.switch_off();
    return data;
}

}  // namespace

int profile(const ProfileOptions& options) {
    const bool is_process = is_number(options.subject);
    if (!is_process && options.flame.empty())
        throw NodeError(EINVAL,
                        options.subject +
                            ": neither a process's number nor, with --flame, a heap profile: give "
                            "one of them");
    const ProfileData data = is_process ? profile_of_process(std::stoi(options.subject), options)
                                        : read_profile(options.subject);
    std::string output = options.output;
    if (is_process && output.empty() && options.flame.empty())
        output = "aep." + options.subject + ".heap";
    if (!output.empty()) write_file(output, profile_text(data));
    if (!options.flame.empty())
        write_file(options.flame,
                   flame_graph(data, options.made ? FlameBytes::made : FlameBytes::live));
    const ProfileSums sums = sums_of(data);
    if (options.json) {
        const nlohmann::json told = {{"live_bytes", static_cast<u64>(sums.live_bytes)},
                                     {"live_blocks", static_cast<u64>(sums.live_blocks)},
                                     {"allocated_bytes", static_cast<u64>(sums.made_bytes)},
                                     {"allocated_blocks", static_cast<u64>(sums.made_blocks)},
                                     {"rate", data.rate},
                                     {"sites", data.sites.size()},
                                     {"profile", output},
                                     {"flame", options.flame}};
        std::puts(told.dump(2).c_str());
        return 0;
    }
    fmt::print(
        "about {} live in {:.0f} blocks, {} allocated in {:.0f}, since it was switched on ({} call "
        "stacks)\n",
        bytes_text(static_cast<u64>(sums.live_bytes)), sums.live_blocks,
        bytes_text(static_cast<u64>(sums.made_bytes)), sums.made_blocks, data.sites.size());
    if (!output.empty())
        fmt::print("{}: read it with jeprof, google-pprof or go tool pprof\n", output);
    if (!options.flame.empty()) fmt::print("{}: a flame graph\n", options.flame);
    return 0;
}

}  // namespace aep
