// Purpose: a lock of an open file description on a range of a file, as the kernel wants it described.
// Who calls it: the locks of nodes (shim/backing), of daemons and clients (node), of the completer.
// Crash rule: no state; the kernel drops a lock with the last descriptor and mapping of its description.
#pragma once

#include <fcntl.h>

#include "dsm-core/base/types.hpp"

namespace aep {

/// A lock of type F_WRLCK, F_RDLCK or F_UNLCK on [at, at+bytes), for F_OFD_SETLK and its like.
inline struct flock range_lock(short type, u64 at, u64 bytes = 1) {
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(at);
    lock.l_len = static_cast<off_t>(bytes);
    return lock;
}

}  // namespace aep
