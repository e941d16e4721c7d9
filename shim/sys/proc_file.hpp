// Purpose: small files of /proc, read without libc.
// Who calls it: whoever tells processes and systems apart: node_identity.cpp, reclaim.cpp, the
// tools. Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Reads a small file whole, with a zero behind it; its length, or 0.
usize read_small_file(const char* path, char* to, usize room);

/// The running system: "1b4e28ba-2fa1-…" to 16 bytes; zeros if there is no /proc.
void read_boot_id(u8 (&id)[16]);

}  // namespace aep
