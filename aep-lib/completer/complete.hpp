// Purpose: finishes one open operation on the calling thread, or performs one.
// Who calls it: the completer's workers.
// Crash rule: see complete.cpp.
#pragma once

#include <signal.h>

#include "aep-lib/completer/protocol.hpp"
#include "aep-lib/provider/capture.h"

namespace aep {

/// What the completer's threads send each other: to begin with an operation, and to leave it.
inline constexpr int GO_SIGNAL = SIGUSR1;
inline constexpr int LEAVE_SIGNAL = SIGUSR2;

/// Installs the signal handlers that lead into the image and out of it. 0 or -errno.
long prepare_completing();

/// Gives the calling thread its stack for them, and blocks every other signal for it.
void become_worker(void* signal_stack, usize bytes);

/// Whether a worker of this process has the slot; if not, the caller has it from now on.
bool claim_slot(u32 slot);
/// After the report's contents are known, before it is sent.
void release_slot(u32 slot);
/// What claims of a dead completer say is void: before the first job. All slots.
void void_claims(u32 slots);

/// Goes on with the operation of a claimed slot, by a worker. `captures`: the capture map. True: it
/// is over, as the report says. False: LEAVE_SIGNAL came; where it is by now is captured.
bool complete_slot(u32 slot, volatile CaptureEntry* captures, CompleterReport& report);

/// Performs the operation that is written in a claimed slot, by a worker of a process that is a
/// member of the kernel's context. Nobody else is in the slot.
CompleterReport perform_slot(u32 slot);

}  // namespace aep
