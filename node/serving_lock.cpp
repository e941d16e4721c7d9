// Purpose: see serving_lock.hpp.
// Who calls it: see serving_lock.hpp.
// Crash rule: see serving_lock.hpp.
#include "node/serving_lock.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cstdlib>

#include "node/file_lock.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"

namespace aep {
namespace {

/// How long a dead daemon's lock may outlive it, and how often that is looked at.
constexpr u64 LONGEST_LOCKED_BY_THE_DEAD_NS = 5'000'000'000;
constexpr unsigned LOCK_PAUSE_US = 5'000;

[[noreturn]] void fail(const std::string& path) {
    throw NodeError(errno, fmt::format("lock {}: {}", path, errno_text(errno)));
}

/// Who holds the lock, as its file says; "?": it does not.
std::string holder_of(int fd) {
    char pid[16] = {};
    return pread(fd, pid, sizeof pid - 1, 0) > 0 ? pid : "?";
}

/// Whether that is still the file at `path`: whoever took the context down removed it.
bool is_named(int fd, const std::string& path) {
    struct stat named {
    }, ours{};
    return stat(path.c_str(), &named) == 0 && fstat(fd, &ours) == 0 && named.st_ino == ours.st_ino;
}

}  // namespace

UniqueFd take_serving_lock(const ContextPaths& paths) {
    make_private_directory(paths.directory);
    require_tmpfs(paths.directory);
    const std::string path = paths.lock();
    const u64 end = monotonic_ns() + LONGEST_LOCKED_BY_THE_DEAD_NS;
    for (;;) {
        UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!fd) fail(path);
        if (!set_file_lock(fd.get(), F_WRLCK, 0)) {
            if (!is_in_the_way(errno)) fail(path);
            const std::string pid = holder_of(fd.get());
            // A completer that a killed daemon had just forked has its lock until it is executed.
            if (is_ending(static_cast<pid_t>(std::atoi(pid.c_str()))) && monotonic_ns() < end) {
                usleep(LOCK_PAUSE_US);
                continue;
            }
            throw NodeError(
                EBUSY,
                fmt::format(
                    "context {}: another daemon serves it already (pid {}): aep status shows it",
                    paths.name, pid));
        }
        if (!is_named(fd.get(), path)) {
            make_private_directory(paths.directory);
            continue;
        }
        const std::string pid = fmt::to_string(getpid());
        if (ftruncate(fd.get(), 0) != 0 || pwrite(fd.get(), pid.data(), pid.size(), 0) < 0)
            fail(path);
        return fd;
    }
}

}  // namespace aep
