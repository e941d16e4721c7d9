// Purpose: reads a part of a file whole.
// Who calls it: pool_file.cpp, context_file.cpp, node/metadata.cpp.
// Crash rule: reads only.
#pragma once

#include <errno.h>

#include "shim/sys/syscall.hpp"

namespace aep::sys {

/// Reads `bytes` at `offset`, all of it, whatever signals come. False: it cannot be read, or the file
/// is shorter. System calls only.
inline bool read_all(int fd, void* to, usize bytes, u64 offset) {
    usize have = 0;
    while (have < bytes) {
        const long got = pread(fd, static_cast<u8*>(to) + have, bytes - have, offset + have);
        if (got == -EINTR) continue;
        if (got <= 0) return false;
        have += static_cast<usize>(got);
    }
    return true;
}

}  // namespace aep::sys
