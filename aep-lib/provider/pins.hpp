// Purpose: where the programs of a context are pinned, whose pins may be touched, and whose may be
//          removed: only what is proven to be of no use to anybody.
// Who calls it: ebpf_provider.cpp, the daemon, the command line (`aep down`).
// Crash rule: the pin of the map `identity` is made last and removed first: without it, or with
//             another value in it, what else is pinned is replaced.
//
//   /sys/fs/bpf/aep/UID/NAME-DEVICE-INODE/    of the context's file: the same path in another mount
//                                             namespace is another context, with other pins
#pragma once

#include <string>
#include <vector>

#include "aep-lib/provider/capture.h"
#include "aep-lib/provider/provider.hpp"

namespace aep {

inline constexpr const char* BPFFS = "/sys/fs/bpf";

/// Mounts a bpffs at `path` unless one is there. An error's text; empty: done.
std::string ensure_bpffs(const char* path = BPFFS);

/// The folder of all pins of the calling user.
std::string pins_of_user();
/// The folder for the context `name` whose file is `context_file`. A failure: there is no such
/// file.
Outcome<std::string> pins_directory(const std::string& name, const std::string& context_file);

/// Makes the folder (0700) and those above it on the bpffs; or finds that each is there, root's or
/// ours, closed to all others' writing, and the last one ours alone. An error's text; empty: it is.
std::string make_pins_directory(const std::string& directory);

/// Writes down where the context's file is, for who looks for it later. Empty path: nowhere.
void identify_context(const std::string& context_file, CaptureIdentity& identity);

/// Removes the pins in each folder of `parent` that belong to a context whose file is gone: its
/// daemon was killed, and then its files were removed. How many folders. A context that cannot be
/// seen from here, for whatever reason, is left alone: it is gone only if the nearest folder of its
/// path that is there is the very one of then, with another file or none in it.
u32 remove_orphaned_pins(const std::string& parent);

/// Removes all that is pinned in the directory, and the directory: capturing ends when the daemon
/// that has the programs open does. An error's text; empty: done, or nothing was there.
std::string remove_pins(const std::string& directory);

/// As above, of the calling user's context `name`, whose file `context_file` is still there: what
/// `aep down` has to do where no daemon runs, before it removes the files. Nobody may need the
/// captures any more: no client lives, and none died in an operation that is to be completed. Needs
/// no capability. An error's text; empty: done, or nothing was pinned.
std::string remove_pins_of(const std::string& name, const std::string& context_file);

// The names of the pins.
inline constexpr const char* PINNED_MAPS[] = {"captures", "members", "doorbell"};
inline constexpr const char* PINNED_LINKS[] = {"on_signal", "on_exit", "on_exec"};
inline constexpr const char* PINNED_IDENTITY = "identity";

/// Removes what is pinned in the directory, which stays. An error's text; empty: done.
std::string remove_contents(const std::string& directory);

/// What is pinned in the directory, and for whom. False: nothing whole.
bool read_identity(const std::string& directory, CaptureIdentity& identity);

}  // namespace aep
