// Purpose: memory that may have failed, or be gone, is read and cleared so that SIGBUS can be an answer.
// Who calls it: what looks at a pool's memory or cleans it; the daemon and the commands, for which it is one.
// Crash rule: private to the process.
#pragma once

#include "shim/sys/fault_signal.hpp"

namespace aep {

/// For keep_fault_signal(SIGBUS, ...) of a process that is to outlive the memory: where it goes on after a fault in the
/// functions below, which then answer that they have failed, or after news of memory that nobody here has touched; 0: any
/// other fault.
uptr way_out_of(const Fault& fault);

/// Copies. False: not all of it can be read.
bool read_carefully(void* to, const void* from, usize bytes);

/// The first of the words in [begin, end) that is not zero; `end`: none is. Null: not all of them can be read.
const u64* first_used_word(const u64* begin, const u64* end);

/// Writes zeros past the caches, whole words: what a machine has in its caches is lost when it dies, and the memory may be
/// another's by then. They are written before any later store is. False: not all of it can be written.
bool clear_carefully(void* at, usize bytes);

/// Where the last of them failed.
uptr failed_address();

}  // namespace aep
