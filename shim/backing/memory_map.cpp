// Purpose: see memory_map.hpp.
// Who calls it: freeze.cpp.
// Crash rule: no state but an open descriptor while it is used.
#include "shim/backing/memory_map.hpp"

#include <errno.h>

#include "shim/sys/files.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

MemoryMap::MemoryMap() {
    const long opened = sys::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    fd_ = sys::failed(opened) ? -1 : away_from_stdio(static_cast<int>(opened));
    failed_ = fd_ < 0;  // there is no /proc, or no descriptor left
}

MemoryMap::~MemoryMap() {
    if (fd_ >= 0) sys::close(fd_);
}

/// The next character without taking it; -1 at the end.
int MemoryMap::peek() {
    if (at_ == have_) {
        long got = failed_ ? 0 : -EINTR;
        while (got == -EINTR) got = sys::read(fd_, buffer_, sizeof buffer_);
        if (got <= 0) {
            failed_ = failed_ || got < 0;
            return -1;
        }
        at_ = 0;
        have_ = static_cast<usize>(got);
    }
    return buffer_[at_];
}

bool MemoryMap::next(MappedRange& range) {
    // BEGIN-END rwxp …
    uptr bounds[2] = {0, 0};
    for (uptr& bound : bounds) {
        int c;
        while ((c = peek()) >= 0 && c != '-' && c != ' ') {
            bound = bound << 4 | static_cast<uptr>(c <= '9' ? c - '0' : c - 'a' + 10);
            ++at_;
        }
        if (c < 0) return false;
        ++at_;
    }
    MappedRange found{bounds[0], bounds[1], PROT_NONE, false};
    int c;
    while ((c = peek()) >= 0 && c != ' ') {
        found.protection |= c == 'r' ? PROT_READ : c == 'w' ? PROT_WRITE : c == 'x' ? PROT_EXEC : 0;
        found.shared = found.shared || c == 's';
        ++at_;
    }
    while ((c = peek()) >= 0 && c != '\n') ++at_;
    if (c < 0) return false;
    ++at_;
    range = found;
    return true;
}

}  // namespace aep
