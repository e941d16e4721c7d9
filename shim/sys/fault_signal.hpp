// Purpose: SIGSEGV, SIGBUS: a look at the fault before the program's own handler, or its end, has it.
// Who calls it: careful.cpp, watch/guard.cpp, context/failed_memory.cpp.
// Crash rule: private to the process.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// What the system says of a fault, and of the instruction that it was at.
struct Fault {
    int code;  // as in siginfo_t
    uptr address;
    bool is_write;
    uptr at;     // the instruction
    uptr frame;  // its frame pointer
};

/// The instruction at which the thread goes on as if nothing had been; 0: what the program has set for it happens.
using FaultLook = uptr(const Fault& fault);

/// From now on faults that come as `signal`, SIGSEGV or SIGBUS, are looked at first; then what the program has set for it
/// happens: its handler is called, or it ends. Again: if the program has set another handler meanwhile, that one comes
/// second from now on. One system call as a rule. A program's handler that calls what it found before it is called once
/// a fault.
void keep_fault_signal(int signal, FaultLook* look);

}  // namespace aep
