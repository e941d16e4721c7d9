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

    /// False: there is no /proc, or no descriptor left.
    bool opened() const { return fd_ >= 0; }
    /// False at the end.
    bool next(MappedRange& range);

  private:
    int peek();

    int fd_;
    usize at_ = 0;
    usize have_ = 0;
    char buffer_[2048];
};

}  // namespace aep
