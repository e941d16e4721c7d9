// Purpose: reads this process's memory map, /proc/self/maps, line by line and without allocation.
// Who calls it: freeze.cpp.
// Crash rule: no state but an open descriptor while it is used.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// One mapping.
struct MappedRange {
    uptr begin;
    uptr end;
    int protection;  // PROT_...
    bool shared;
};

/// Reads the mappings in the order of their addresses. What lies at addresses already read may
/// change meanwhile.
class MemoryMap {
  public:
    MemoryMap();
    ~MemoryMap();
    MemoryMap(const MemoryMap&) = delete;
    MemoryMap& operator=(const MemoryMap&) = delete;

    /// False at the end, and where it cannot be read further: `range` stays as it is.
    bool next(MappedRange& range);
    /// Whether it could not be opened, or not be read to its end: there may be more than was said.
    bool failed() const { return failed_; }

  private:
    int peek();

    int fd_;
    bool failed_;
    usize at_ = 0;
    usize have_ = 0;
    char buffer_[2048];
};

}  // namespace aep
