// Purpose: part of a file or device in memory, until the end of a scope.
// Who calls it: who looks at a pool, or clears one, without opening it as a heap.
// Crash rule: the kernel unmaps what a dead process had mapped.
#pragma once

#include "shim/sys/syscall.hpp"

namespace aep {

/// Bytes [at, at + bytes) of `fd`, shared. Both must be multiples of what the file's memory is mapped by. The descriptor is
/// needed at the beginning only. A file that is cut short meanwhile gives SIGBUS.
class Mapping {
  public:
    Mapping(int fd, u64 at, usize bytes, int protection)
        : address_(sys::mmap(0, bytes, protection, MAP_SHARED, fd, at)), bytes_(bytes) {}
    ~Mapping() {
        if (!failed()) sys::munmap(static_cast<uptr>(address_), bytes_);
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    bool failed() const { return sys::failed(address_); }
    long error() const { return address_; }  // -errno, if it failed
    void* at() const { return reinterpret_cast<void*>(address_); }
    usize bytes() const { return bytes_; }

  private:
    long address_;
    usize bytes_;
};

}  // namespace aep
