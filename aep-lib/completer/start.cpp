// Purpose: starts a completer; see protocol.hpp.
// Who calls it: the daemon, the provider's tests.
// Crash rule: see protocol.hpp.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "aep-lib/completer/protocol.hpp"

namespace aep {
namespace {

/// In the child, which may be that of a process with threads: system calls only.
[[noreturn]] void become_completer(const char* path, const CompleterFds& fds, char* uid,
                                   char* gid) {
    // Of no use without its daemon, also while it waits for a former one's end. It says so again
    // when it has become the tenant.
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    const int given[COMPLETER_FDS] = {fds.context,  fds.image,     fds.pool,
                                      fds.captures, fds.constants, fds.socket};
    constexpr int BEYOND = FIRST_COMPLETER_FD + COMPLETER_FDS;
    int away[COMPLETER_FDS];  // out of the way of the final numbers
    for (int i = 0; i < COMPLETER_FDS; ++i) {
        away[i] = given[i] < 0 ? -1 : fcntl(given[i], F_DUPFD_CLOEXEC, BEYOND);
        if (away[i] < 0 && given[i] >= 0) _exit(127);
    }
    for (int i = 0; i < COMPLETER_FDS; ++i)
        if (away[i] < 0)
            close(FIRST_COMPLETER_FD + i);
        else if (dup2(away[i], FIRST_COMPLETER_FD + i) < 0)
            _exit(127);
    syscall(SYS_close_range, BEYOND, ~0U, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    char name[] = "aep-completer";
    char* arguments[] = {name, uid, gid, nullptr};
    char* environment[] = {nullptr};
    execve(path, arguments, environment);
    const char* const words[] = {"aep-completer: it cannot be executed: ", path, "\n"};
    for (const char* text : words)
        if (write(STDERR_FILENO, text, strlen(text)) < 0) break;
    _exit(127);
}

}  // namespace

long start_completer(const char* path, const CompleterFds& fds, CompleterUser user) {
    char uid[16], gid[16];
    snprintf(uid, sizeof uid, "%u", user.uid);
    snprintf(gid, sizeof gid, "%u", user.gid);
    const pid_t child = fork();
    if (child == 0) become_completer(path, fds, uid, gid);
    return child > 0 ? child : -errno;
}

}  // namespace aep
