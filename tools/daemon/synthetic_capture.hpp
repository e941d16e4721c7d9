// Purpose: lets an operation begin as if a thread had entered the image and had been killed there
// at
//          once: the completer does the rest, and a daemon that dies is no danger to it.
// Who calls it: the provider `ebpf` in the daemon, for the host's slot.
// Crash rule: until the sequence is odd nothing has begun, whatever was written; from then on the
//             operation is open with a capture that is its own.
#pragma once

#include <string>

#include "aep-lib/image/image_info.hpp"
#include "aep-lib/provider/capture.h"

namespace aep {

/// Begins the operation that is written in `slot`, whose sequence is even and on whose stack nobody
/// runs. `capture` is the slot's entry of the capture map. Why not, one line; empty: it has begun.
std::string begin_as_killed(int context_fd, const ImageInfo& image, u32 slot,
                            volatile CaptureEntry& capture);

}  // namespace aep
