// Purpose: see kept_stderr.hpp.
// Who calls it: see kept_stderr.hpp.
// Crash rule: see kept_stderr.hpp.
#include "preload/kept_stderr.hpp"

#include "shim/driver/forking.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

constexpr int LEAST = 255;  // where programs expect none of theirs; fewer are allowed: none is kept

int kept = -1;
struct stat as_it_was;

bool is_same(const struct stat& a, const struct stat& b) {
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_rdev == b.st_rdev;
}

void let_go() {
    if (kept >= 0) sys::close(kept);
    kept = -1;
}
constexpr ForkParticipant AT_FORK = {.in_child = let_go};

}  // namespace

void keep_stderr() {
    take_part_in_forks(AT_FORK);
    const long fd = sys::call(__NR_fcntl, 2, F_DUPFD_CLOEXEC, LEAST);
    if (!sys::failed(fd) && !sys::failed(sys::fstat(static_cast<int>(fd), &as_it_was)))
        kept = static_cast<int>(fd);
}

void give_stderr_back() {
    struct stat now;
    if (kept < 0 || !sys::failed(sys::fstat(2, &now))) return;
    if (!sys::failed(sys::fstat(kept, &now)) && is_same(now, as_it_was))
        sys::call(__NR_dup3, kept, 2, 0);
}

}  // namespace aep
