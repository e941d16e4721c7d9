// Purpose: another process's heap profile, read from its memory, and switched on there.
// Who calls it: cli/profile.cpp.
// Crash rule: none needed: two words of the process are written, each by one store.
//
// The kernel decides who may: who may trace the process. The process need not do anything, and what is read of it is
// its own word: each value is checked in this process's copy.
#pragma once

#include <string>
#include <vector>

#include "shim/watch/inspected.hpp"
#include "tools/cli/profile_data.hpp"

namespace aep {

class ProfiledProcess {
  public:
    /// Throws NodeError: there is no such process, it may not be read, or it does not run on this library.
    explicit ProfiledProcess(int pid);

    bool is_on() const;
    /// With one sample in `rate` bytes on average; 0: as it is. Throws: there are samples of another rate already.
    void switch_on(u64 rate);
    void switch_off();

    /// What has been sampled so far, with the process's map.
    ProfileData read() const;

  private:
    template <class T>
    T read_value(const void* address) const;
    template <class T>
    void write_value(void* address, T value) const;
    std::string map() const;
    void set_on(u32 set, u32 clear);

    int pid_;
    Inspected seen_{};
};

}  // namespace aep
