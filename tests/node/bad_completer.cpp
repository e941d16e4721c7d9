// Purpose: completers that have been taken over, for the test of who keeps one: how it behaves says
//          the name that it is started by.
// Who calls it: completer_keeper.cpp, by links to it.
// Crash rule: none needed.
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "aep-lib/completer/protocol.hpp"

namespace aep {
namespace {

constexpr int SOCKET_FD = FIRST_COMPLETER_FD + COMPLETER_FDS - 1;

void say(u32 slot, CompleterOutcome outcome) {
    const CompleterReport report{slot, outcome, 1, 0, 0};
    if (send(SOCKET_FD, &report, sizeof report, MSG_NOSIGNAL) < 0) _exit(1);
}

int behave(const char* name) {
    const auto is = [name](const char* other) { return std::strcmp(name, other) == 0; };
    if (is("exits")) return 7;
    if (is("lacks")) return COMPLETER_LACKS;
    if (is("misled")) return COMPLETER_MISLED;
    if (is("faults")) raise(SIGSEGV);
    if (is("killed-at-start")) raise(SIGKILL);
    const bool performs = fcntl(SOCKET_FD - 2, F_GETFD) < 0;  // without captures
    CompleterJob begin{};
    if (performs) {
        say(0, CompleterOutcome::started);
        if (recv(SOCKET_FD, &begin, sizeof begin, 0) != sizeof begin) return 1;
    }
    while (is("never-ready")) pause();
    if (is("unknown")) say(0, static_cast<CompleterOutcome>(77));
    if (is("early")) say(0, CompleterOutcome::completed);
    say(0, CompleterOutcome::ready);
    if (is("twice-ready")) say(0, CompleterOutcome::ready);
    if (is("short")) send(SOCKET_FD, "x", 1, MSG_NOSIGNAL);
    while (is("floods")) say(3, CompleterOutcome::completed);
    CompleterJob job{};
    while (recv(SOCKET_FD, &job, sizeof job, 0) == sizeof job) {
        if (is("out-of-range")) say(~0U, CompleterOutcome::no_capture);
        if (is("another-slot")) say(job.slot + 1, CompleterOutcome::broken);
        if (is("dies")) raise(SIGSYS);
        if (is("killed")) raise(SIGKILL);
        if (is("never-ends")) continue;
        say(job.slot, CompleterOutcome::completed);
    }
    return 0;
}

}  // namespace
}  // namespace aep

int main() {
    const char* path = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
    return aep::behave(std::strrchr(path, '/') + 1);
}
