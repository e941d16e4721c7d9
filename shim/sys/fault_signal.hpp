// Purpose: SIGSEGV: a look at the fault before the program's own handler, or its end, has it.
// Who calls it: guard.cpp.
// Crash rule: private to the process.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Whether the fault at `address`, of an instruction at `at` with that frame pointer, was one to be explained. It has
/// been, then.
using FaultLook = bool(uptr address, bool is_write, uptr at, uptr frame);

/// From now on faults are looked at first; then what the program has set for SIGSEGV happens: its handler is called, or
/// it ends. Again: if the program has set another handler meanwhile, that one comes second from now on. One system call
/// as a rule. A program's handler that calls what it found before it is called once a fault.
void keep_fault_signal(FaultLook* look);

}  // namespace aep
