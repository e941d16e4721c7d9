// Purpose: a thread that is none of libc's: its end is not waited for when a program's last thread
//          ends, no signal reaches it, and the program's libraries do not know of it.
// Who calls it: share_fd.cpp, for the thread behind a descriptor.
// Crash rule: private to the process and ends with it.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// A thread for the rest of the process. It has no thread-local storage but what the ABI asks for (`%fs:0`,
/// the stack protector's canary), so what it runs makes no operation and calls nothing that
/// allocates or sets errno: loads, locks and raw system calls.
class RawThread {
  public:
    /// Starts `run`, which never returns, on a stack of some 24 KiB with a page that faults below it.
    /// 0, or -errno (-ENOMEM, -EAGAIN), and then nothing is left. Once: until it is forgotten.
    long start(void (*run)());
    /// In a forked child, where it does not exist: gives back its memory. None was started: nothing
    /// happens.
    void forget();

  private:
    uptr memory_ = 0;
};

}  // namespace aep
