// Purpose: see leftovers.hpp.
// Who calls it: `aep down`.
// Crash rule: see leftovers.hpp.
#include "node/leftovers.hpp"

#include <fcntl.h>
#include <unistd.h>

#include "node/served_context.hpp"

namespace aep {

Leftovers remove_leftovers(const ContextPaths& paths, bool force,
                           const std::function<void()>& before) {
    if (access(paths.directory.c_str(), F_OK) != 0) return Leftovers::none;
    require_private_directory(paths.directory);  // or we would remove what somebody else chose
    const UniqueFd lock(open(paths.lock().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (lock && !set_file_lock(lock.get(), F_WRLCK, 0)) return Leftovers::served;
    const UniqueFd context(open(paths.context().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (context && !force && somebody_lives_in(context.get())) return Leftovers::in_use;
    before();
    for (const std::string& file : {paths.context(), paths.pool(), paths.socket, paths.log(),
                                    paths.older_log(), paths.lock()})
        unlink(file.c_str());
    rmdir(paths.directory.c_str());
    if (paths.own_runtime) rmdir(paths.runtime_directory().c_str());
    return Leftovers::removed;
}

}  // namespace aep
