// Purpose: the provider `kernel`: a Linux kernel with atomic execution protection (kernel/patches)
//          lets a thread that is killed inside the image go on until its operation has ended.
// Who calls it: the daemon, `aep doctor`, the provider's tests.
// Crash rule: a context of the kernel's lives as long as a descriptor of it or a member. Who comes
//             after a daemon gets it from any member.
#pragma once

#include <vector>

#include "aep-lib/provider/provider.hpp"

namespace aep {

/// What is missing for it on this system: one line each, with what to do. Empty: nothing.
std::vector<std::string> missing_for_kernel();

/// How much processor time a killed thread gets inside, in milliseconds; 0: not such a kernel.
u64 kernel_grace_period_ms();

/// Makes a context of the kernel's, with the image, and with the control area and the stacks of the
/// context file at the addresses they always have. The descriptors stay the caller's; the
/// descriptions behind them live as long as the context: they must hold no lock. A descriptor.
Outcome<int> make_kernel_context(int context_fd, int image_fd, const ContextHeader& header);

/// The kernel's context that the process behind `pidfd` is a member of, if it is one with the
/// context file that has this header: a new descriptor. A failure: it is none.
Outcome<int> kernel_context_of(int pidfd, const ContextHeader& header);

/// Makes a process a member for good, and all that it forks. An error's text; empty: it is one.
std::string join_kernel_context(int kernel_context, int pidfd, const ContextHeader& header);

}  // namespace aep
