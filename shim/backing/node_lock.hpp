// Purpose: one lock a node: a write lock of an open file description on one byte of the pool
//          file, far beyond its end. It lives as long as the description: until the last fd and
//          the last mapping made from it are gone.
// Who calls it: node_identity.cpp, reclaim.cpp, pool_create.cpp.
// Crash rule: the kernel drops the lock with the last process that maps the description, however
//             it dies.
#pragma once

#include <errno.h>

#include "dsm-core/base/types.hpp"
#include "shim/sys/range_lock.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

/// Byte of node 0's lock; node i's is i further.
inline constexpr u64 NODE_LOCK_OFFSET = u64{1} << 60;

enum class NodeLock {
    taken,   // ours now
    held,    // somebody else has it: the node is alive, or is being reclaimed
    failed,  // the file system has no such locks
};

/// Tries to lock node `i` for the description of `fd`; never waits.
inline NodeLock try_node_lock(int fd, u32 i) {
    struct flock lock = range_lock(F_WRLCK, NODE_LOCK_OFFSET + i);
    const long result = sys::fcntl(fd, F_OFD_SETLK, &lock);
    if (!sys::failed(result)) return NodeLock::taken;
    return result == -EAGAIN || result == -EACCES ? NodeLock::held : NodeLock::failed;
}

/// Drops the lock before its description ends.
inline void release_node_lock(int fd, u32 i) {
    struct flock lock = range_lock(F_UNLCK, NODE_LOCK_OFFSET + i);
    sys::fcntl(fd, F_OFD_SETLK, &lock);
}

}  // namespace aep
