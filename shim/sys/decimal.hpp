// Purpose: decimal digits, where nothing of libc may be used for them.
// Who calls it: messages, paths of /proc and /sys, the daemon's socket.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Calls put(char) for each decimal digit of `value`, the first one first.
template <class Put>
void each_digit(u64 value, Put&& put) {
    char digits[20];
    usize count = 0;
    do {
        digits[count++] = static_cast<char>('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count != 0) put(digits[--count]);
}

}  // namespace aep
