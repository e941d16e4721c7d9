// Purpose: the segments of the image's file, as providers need them.
// Who calls it: ebpf_probe.cpp, kernel_provider.cpp.
// Crash rule: reads only.
#pragma once

#include <elf.h>

#include <vector>

#include "aep-lib/provider/provider.hpp"

namespace aep {

/// Those of type PT_LOAD, in the file's order; or why there are none, one line. `fd` stays the
/// caller's.
Outcome<std::vector<Elf64_Phdr>> loaded_segments(int fd);

}  // namespace aep
