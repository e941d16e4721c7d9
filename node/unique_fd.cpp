// Purpose: see unique_fd.hpp.
// Who calls it: see unique_fd.hpp.
// Crash rule: see unique_fd.hpp.
#include "node/unique_fd.hpp"

#include <fcntl.h>
#include <fmt/format.h>

namespace aep {

UniqueFd describe_again(int fd, int flags) {
    return UniqueFd(open(fmt::format("/proc/self/fd/{}", fd).c_str(), flags | O_CLOEXEC));
}

}  // namespace aep
