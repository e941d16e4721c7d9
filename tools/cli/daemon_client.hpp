// Purpose: the command line's way to the daemon: ask it in JSON, start it when it is missing.
// Who calls it: cli/*.cpp.
// Crash rule: none needed.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "node/paths.hpp"

namespace aep {

using Json = nlohmann::ordered_json;

/// How long a daemon may take for an answer, in ms.
inline constexpr int USUAL_PATIENCE_MS = 5000;

/// What every command is told.
struct Target {
    ContextPaths paths;
    bool json = false;
    int patience_ms = USUAL_PATIENCE_MS;
};

inline constexpr int EXIT_WRONG = 1;      // something is wrong: a finding, a refusal
inline constexpr int EXIT_NO_DAEMON = 2;  // also: the command line is not understood
// Of aep status alone:
inline constexpr int EXIT_POISONED = 3;
inline constexpr int EXIT_FENCED = 4;   // other nodes have declared this one dead
inline constexpr int EXIT_SUSPECT = 5;  // this node, or another one of its pool

/// The daemon's answer; nothing: no daemon listens. Throws NodeError: one does, but says nothing
/// for so long (ETIMEDOUT; the text says whether it is stopped), or it is somebody else's (EPERM).
std::optional<Json> ask_daemon(const ContextPaths& paths, const Json& request,
                               int patience_ms = USUAL_PATIENCE_MS);

/// Whose daemon has the context although nothing answers at its socket, a line; empty: nobody's.
std::string served_elsewhere(const ContextPaths& paths);

/// ask_daemon(), or exits with EXIT_NO_DAEMON after a message.
Json must_ask(const Target& target, const Json& request);
/// The answer, or an exit with what the daemon says is wrong.
Json must_do(const Target& target, const Json& request);
/// Its part `key`.
Json must_get(const Target& target, const Json& request, const char* key);

/// Starts a daemon unless one listens. Empty: one does now; else why not. `started`: it is ours.
std::string start_daemon(const ContextPaths& paths, const std::vector<std::string>& arguments,
                         bool& started);

/// The daemon's program as it came with this one.
std::string daemon_program();

/// What the daemon, if we started it, says that it lacks for each provider (`aepd --probe`); no
/// object: it cannot be run.
Json probe_daemon();

/// libaepmalloc.so as it came with this program.
std::string library_path();

/// LD_PRELOAD without our library, for programs that must not run on it.
std::string preload_without_us();

}  // namespace aep
