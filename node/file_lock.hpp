// Purpose: locks of open file descriptions on ranges of a file: who lives, who serves.
// Who calls it: node.
// Crash rule: the kernel drops a lock with the last descriptor and mapping of its description.
#pragma once

#include <errno.h>
#include <fcntl.h>

#include "shim/sys/range_lock.hpp"

namespace aep {

/// Sets a lock of type F_WRLCK, F_RDLCK or F_UNLCK for the description of `fd`; never waits. False:
/// another description's is in the way, or the file system has none (errno says).
inline bool set_file_lock(int fd, short type, u64 at, u64 bytes = 1) {
    struct flock lock = range_lock(type, at, bytes);
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/// Whether the errno of set_file_lock() says that another description has the lock.
inline bool is_in_the_way(int error) { return error == EAGAIN || error == EACCES; }

/// Whether another description than that of `fd` has a lock in the range.
inline bool somebody_locks(int fd, u64 at, u64 bytes = 1) {
    struct flock lock = range_lock(F_WRLCK, at, bytes);
    // An error counts as held: nothing is taken from somebody who may live.
    return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

}  // namespace aep
