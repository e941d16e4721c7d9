// Purpose: makes a range of mapped memory present and writable now, so that no later store to it
//          can fail.
// Who calls it: pool_backing.cpp (commit), pool_file.cpp and pool_create.cpp (tables).
// Crash rule: no state; memory that was populated and never used is given back with its chunk.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Makes [address, address+bytes) present and writable, contents unchanged. False: no memory (a
/// full file system too).
bool populate(uptr address, usize bytes);

/// The same for kernels before 5.14, which have no MADV_POPULATE_WRITE.
bool populate_by_futex(uptr address, usize bytes);

}  // namespace aep
