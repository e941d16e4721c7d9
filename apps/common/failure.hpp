// Purpose: how a program of this folder ends when something does not work: it says what.
// Who calls it: the applications and the transports.
// Crash rule: no state.
#pragma once

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

namespace aep::apps {

/// With the meaning of errno.
[[noreturn]] inline void fail(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
}

inline void expect(bool good, const char* what) {
    if (!good) [[unlikely]]
        fail(what);
}

/// Of an answer, a sum, a state that is not what it must be.
inline void verify(bool good, const char* what) {
    if (!good) [[unlikely]]
        throw std::runtime_error(what);
}

}  // namespace aep::apps
