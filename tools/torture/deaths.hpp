// Purpose: the ways to die that the torture knows, by name.
// Who calls it: the driver and the victim.
// Crash rule: constants.
#pragma once

#include <string_view>

namespace aep::torture {

/// Who ends the victim.
enum class By {
    driver,  // from outside, at a random moment
    victim,  // a thread of its own, at a random moment
    point,   // the driver, when a thread reaches a named point in the image
};

struct Death {
    std::string_view name;
    By by;
    std::string_view what;
};

inline constexpr Death DEATHS[] = {
    {"sigkill", By::driver, "SIGKILL"},
    {"sigterm", By::driver, "SIGTERM with its default action"},
    {"sigabrt", By::driver, "SIGABRT, with a core dump where the system makes one"},
    {"stop-kill", By::driver, "SIGSTOP, then SIGKILL"},
    {"mrelease", By::driver, "SIGKILL, then process_mrelease(2) takes its memory away"},
    {"oom", By::victim, "the memory cgroup's OOM killer"},
    {"exit", By::victim, "exit_group(2) by a sibling thread"},
    {"exec", By::victim, "execve(2) by a sibling thread"},
    {"segv", By::victim, "SIGSEGV of a sibling thread, no core"},
    {"segv-core", By::victim, "SIGSEGV of a sibling thread, with a core size limit above 0"},
    {"handler-exit", By::victim, "_exit(2) in a signal handler on top of the operation"},
    {"handler-exec", By::victim, "execve(2) in a signal handler on top of the operation"},
    {"handler-kill", By::victim, "SIGKILL while a signal handler runs on top of the operation"},
    {"altstack-exit", By::victim, "_exit(2) in a handler on an alternate stack"},
    {"point", By::point,
     "a breakpoint at a named point of the image; with provider kernel SIGKILL there"},
};

}  // namespace aep::torture
