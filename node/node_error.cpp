// Purpose: see node_error.hpp.
// Who calls it: see node_error.hpp.
// Crash rule: see node_error.hpp.
#include "node/node_error.hpp"

#include <fmt/format.h>

#include <cstring>

#include "shim/sys/message.hpp"

namespace aep {

std::string errno_text(int error) {
    if (const char* const words = errno_words(error); words != nullptr) return words;
    const char* code = strerrorname_np(error);
    return fmt::format("{} ({})", code != nullptr ? code : "errno", std::strerror(error));
}

void require(long result, const std::string& what) {
    if (result >= 0) return;
    const int error = static_cast<int>(-result);
    throw NodeError(error, fmt::format("{}: {}", what, errno_text(error)));
}

}  // namespace aep
