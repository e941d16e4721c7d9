// Purpose: keeps the log readable, and the disk free, when somebody does the same thing again and
//          again: of each kind of line some a second, then how many were left out.
// Who calls it: daemon/main.cpp, between the host and the log.
// Crash rule: what was left out and not yet counted in the log is forgotten.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "dsm-core/base/types.hpp"
#include "node/log.hpp"

namespace aep {

class LogLimit {
  public:
    /// Of one kind, in a second. A kind is a level, and what a line says before its first number.
    static constexpr u32 LINES_A_SECOND = 20;

    explicit LogLimit(Log to) : to_(std::move(to)) {}

    /// Hands the line on, or counts it. Control characters in it, which may be a client's, become
    /// '?'. Not thread-safe. `now_ms`: of any clock that does not go back.
    void say(LogLevel level, const std::string& text, u64 now_ms);

  private:
    struct Kind {
        u64 second = 0;
        u32 lines = 0;
        u64 left_out = 0;
    };

    Log to_;
    std::map<std::pair<LogLevel, std::string>, Kind> kinds_;  // as many as the daemon has lines
};

}  // namespace aep
