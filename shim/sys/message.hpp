// Purpose: one-line messages on fd 2, each beginning with "aep: ", made without allocation, stdio
//          or locale.
// Who calls it: everything in shim/ and preload/ that must tell the user something.
// Crash rule: a line is one write(2); a kill leaves either the whole line or nothing of it.
//
//     message("pool ", path, ": size is ", found, ", expected ", expected);
//     fatal("free(", Hex{address}, "): not a live block");
#pragma once

#include <concepts>

#include "dsm-core/base/types.hpp"

namespace aep {

/// Printed as 0x…
struct Hex {
    u64 value;
};

/// A negative or positive errno value, printed by name: "ENOENT (no such file or directory)".
struct Errno {
    long value;
};
/// Those words, with what to do where that is clear; null: it is none that system calls of ours meet.
const char* errno_words(long error);

/// A byte count, printed with the largest unit that divides it exactly: "64 KiB".
struct Bytes {
    u64 value;
};

/// A line under construction. Too long a line is cut, never overrun.
class MessageLine {
  public:
    /// Begins the line with "aep: ".
    MessageLine();
    void add(const char* text);
    void add(char c);
    void add(bool value) { add(value ? "true" : "false"); }
    void add(Hex value);
    void add(Errno error);
    void add(Bytes bytes);
    template <std::integral T>
    void add(T value) {
        if (value < 0) {
            add('-');
            add_decimal(~static_cast<u64>(value) + 1);
        } else {
            add_decimal(static_cast<u64>(value));
        }
    }
    /// Ends the line and writes it to fd 2 with one write(2).
    void send();

    const char* text() const { return text_; }
    usize length() const { return length_; }

  private:
    void add_decimal(u64 value);

    char text_[768];
    usize length_ = 0;
};

/// Writes one line made of `parts`.
template <class... Parts>
void message(Parts... parts) {
    MessageLine line;
    (line.add(parts), ...);
    line.send();
}

/// Ends the process by SIGABRT, like abort(3), without libc.
[[noreturn]] void abort_process();

/// message(parts...) and then abort.
template <class... Parts>
[[noreturn]] void fatal(Parts... parts) {
    message(parts...);
    abort_process();
}

}  // namespace aep
