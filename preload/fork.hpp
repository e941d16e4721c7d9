// Purpose: every way to create a process with a copy of this address space passes through these
// three steps. Who calls it: fork.cpp, raw_clone.S. Crash rule: private to the process.
#pragma once

#include "dsm-core/base/thread_safety.hpp"

extern "C" {
/// In the parent, before: makes the heap private for the child. 0, or an errno value: the fork must
/// fail with it. Nested calls (libc's fork calls the atfork handlers and then _Fork) count only
/// once.
int aep_before_fork() AEP_NOT_CHECKED;  // what it locks the other two give up
/// In the parent after, whether a child was made or not; in the child.
void aep_after_fork_parent() AEP_NOT_CHECKED;
void aep_after_fork_child() AEP_NOT_CHECKED;
}
