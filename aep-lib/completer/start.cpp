// Purpose: starts a completer; see protocol.hpp.
// Who calls it: the daemon, the provider's tests.
// Crash rule: see protocol.hpp.
#include "aep-lib/completer/helper.hpp"
#include "aep-lib/completer/protocol.hpp"

namespace aep {

static_assert(FIRST_COMPLETER_FD == FIRST_HELPER_FD);

long start_completer(const char* path, const CompleterFds& fds, CompleterUser user) {
    return start_helper(
        {.program = path,
         .words = {"aep-completer", std::to_string(user.uid), std::to_string(user.gid)},
         .files = {fds.context, fds.image, fds.pool, fds.captures, fds.constants, fds.socket},
         .no_environment = true});
}

}  // namespace aep
