// Purpose: everything that an operation of any client may touch, mapped where the client has it.
// Who calls it: the completer; its tests map parts of it as a client does.
// Crash rule: mappings die with the process. The lock says that whoever completed before is dead.
#pragma once

#include "aep-lib/completer/protocol.hpp"
#include "shim/context/context_file.hpp"

namespace aep {

/// Maps the superblock and tables of the pool at `header.pool_address`. 0 or -errno.
long map_pool_tables(int fd, const ContextConstants& header);

/// Waits until no other completer of the context lives, and is it from now on until the process
/// ends. 0 or -errno.
long become_only_completer(int context_fd);

/// Maps control, stacks, the heap's metadata, every domain, the pool's tables, and the image for
/// completing; `header`: the verified constants. What failed, or null; `error` is then -errno, of
/// what is not as it was when the constants were written -EINVAL or -ESTALE.
const char* map_world(const CompleterFds& fds, const ContextConstants& header, long& error);
/// To perform operations, as a client does: all that a kernel has not mapped, of whose context the
/// process may be a member.
const char* map_world_to_perform(const CompleterFds& fds, const ContextConstants& header,
                                 long& error);

}  // namespace aep
