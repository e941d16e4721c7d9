// Purpose: removes the files of a context that no daemon serves.
// Who calls it: `aep down`.
// Crash rule: as host.hpp's remove(): the lock's file goes last.
#pragma once

#include <functional>

#include "node/paths.hpp"

namespace aep {

enum class Leftovers {
    none,  // there are no files
    removed,
    served,  // a daemon holds the context
    in_use,  // clients live
};

/// Removes what is left of a context; with `force` also under the feet of living clients, which
/// keep what they have mapped. `before`: called when nobody stands against it and the files are
/// still there. Throws NodeError when the directory is not ours alone.
Leftovers remove_leftovers(
    const ContextPaths& paths, bool force, const std::function<void()>& before = [] {});

}  // namespace aep
