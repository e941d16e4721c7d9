// Purpose: what all that open files by themselves need: how long a path may be, and descriptors that
//          are out of the program's way.
// Who calls it: shim/backing (pool files, /proc), shim/context (the daemon's socket).
// Crash rule: no state.
#pragma once

#include "shim/sys/syscall.hpp"

namespace aep {

/// Bytes of a path, the kernel's PATH_MAX.
inline constexpr usize MAX_PATH = 4096;

/// `fd` itself if it is above 2, else a duplicate that is, with `fd` closed. -errno.
inline int away_from_stdio(int fd) {
    // A program that closed 0, 1 or 2 may write to them at any time: never into what is ours.
    if (fd > 2) return fd;
    const long higher = sys::call(__NR_fcntl, fd, F_DUPFD_CLOEXEC, 3);
    sys::close(fd);
    return static_cast<int>(higher);
}

}  // namespace aep
