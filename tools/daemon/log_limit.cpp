// Purpose: see log_limit.hpp.
// Who calls it: see log_limit.hpp.
// Crash rule: see log_limit.hpp.
#include "tools/daemon/log_limit.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace aep {

void LogLimit::say(LogLevel level, const std::string& text, u64 now_ms) {
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    const auto number = std::find_if(text.begin(), text.end(), is_digit);
    Kind& kind = kinds_[{level, std::string(text.begin(), number)}];
    if (const u64 second = now_ms / 1000; second != kind.second) {
        kind.second = second;
        kind.lines = 0;
    }
    if (kind.lines == LINES_A_SECOND) {
        ++kind.left_out;
        return;
    }
    ++kind.lines;
    if (kind.left_out != 0) {
        to_(level,
            fmt::format("{} lines like the next are left out", std::exchange(kind.left_out, 0)));
    }
    std::string line = text;
    const auto is_control = [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; };
    std::replace_if(line.begin(), line.end(), is_control, '?');
    to_(level, line);
}

}  // namespace aep
