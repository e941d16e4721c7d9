// Purpose: aep-completer: finishes the operations of killed threads on its workers; with a kernel
//          that does that itself, performs those of the host.
// Who calls it: the daemon (start_completer), with the descriptors of CompleterFds from 3 on.
// Crash rule: see complete.cpp. It ends when the daemon's end of the socket is closed; operations
//             that its workers are in the middle of are then captured, for the next completer.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "aep-lib/completer/complete.hpp"
#include "aep-lib/completer/confine.hpp"
#include "aep-lib/completer/crew.hpp"
#include "aep-lib/completer/world.hpp"
#include "dsm-core/base/every_thread.hpp"

namespace aep {
namespace {

constexpr int CONTEXT_FD = FIRST_COMPLETER_FD;
constexpr int IMAGE_FD = CONTEXT_FD + 1;
constexpr int POOL_FD = CONTEXT_FD + 2;
constexpr int CAPTURES_FD = CONTEXT_FD + 3;
constexpr int CONSTANTS_FD = CONTEXT_FD + 4;
constexpr int SOCKET_FD = CONTEXT_FD + 5;
constexpr CompleterFds FDS{CONTEXT_FD, IMAGE_FD, POOL_FD, CAPTURES_FD, CONSTANTS_FD, SOCKET_FD};

volatile CaptureEntry* captures = nullptr;  // null: the kernel completes
u32 max_slots = 0;                          // as it was when the process began

void send(const CompleterReport& report) {
    while (::send(SOCKET_FD, &report, sizeof report, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

/// False: the daemon is gone.
bool receive(CompleterJob& job) {
    for (;;) {
        const ssize_t got = recv(SOCKET_FD, &job, sizeof job, 0);
        if (got >= 0 || errno != EINTR) return got == sizeof job;
    }
}

bool complete(u32 slot, CompleterReport& report) { return complete_slot(slot, captures, report); }

bool perform(u32 slot, CompleterReport& report) {
    report = perform_slot(slot);
    return true;
}

int fail(const char* what, long error) {
    fprintf(stderr, "aep-completer: %s: %s\n", what, strerror(static_cast<int>(-error)));
    return COMPLETER_LACKS;
}

/// The same of the world.
int fail_to_map(const char* what, long error) {
    const int end = fail(what, error);
    return error == -EINVAL || error == -ESTALE ? COMPLETER_MISLED : end;
}

/// As the daemon has verified them: nothing is read in the context's file, where clients write.
bool read_constants(ContextConstants& constants) {
    errno = ENOEXEC;
    return pread(CONSTANTS_FD, &constants, sizeof constants, 0) == sizeof constants &&
           !verify_constants(constants);
}

bool map_captures() {
    const usize bytes = round_up(usize{max_slots} * sizeof(CaptureEntry), OS_PAGE_SIZE);
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, CAPTURES_FD, 0);
    if (at == MAP_FAILED) return false;
    captures = static_cast<volatile CaptureEntry*>(at);
    return true;
}

/// To complete what others have begun.
int prepare() {
    if (const char* what = forbid_tracing()) return fail(what, -errno);
    ContextConstants constants;
    if (!read_constants(constants)) return fail("the context's constants", -errno);
    long error = 0;
    if (const char* what = map_world(FDS, constants, error)) return fail_to_map(what, error);
    max_slots = context().max_slots;
    if (!map_captures()) return fail("mapping the captures", -errno);
    error = prepare_completing();
    return error < 0 ? fail("preparing the signals", error) : 0;
}

/// To perform the host's operations, which the kernel completes, or which are undone if we die.
int prepare_performing() {
    send({0, CompleterOutcome::started, 0, 0, 0});
    CompleterJob begin;
    if (!receive(begin) || begin.slot != BEGIN_JOB) return COMPLETER_LACKS;
    if (const char* what = forbid_tracing()) return fail(what, -errno);
    ContextConstants constants;
    if (!read_constants(constants)) return fail("the context's constants", -errno);
    long error = 0;
    const char* what = map_world_to_perform(FDS, constants, error);
    if (what != nullptr) return fail_to_map(what, error);
    max_slots = context().max_slots;
    // For workers that complete. An operation that is performed is not left before its end.
    return signal(LEAVE_SIGNAL, SIG_IGN) == SIG_ERR ? fail("the signals", -errno) : 0;
}

int serve(CompleterUser user) {
    // Of no use without its daemon, also while it waits for a former one's end. It says so again when it has become the
    // tenant. A daemon that is gone already is found out at the socket.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return fail("ending with the daemon", -errno);
    // Before anything is opened in its place.
    const bool completes = fcntl(CAPTURES_FD, F_GETFD) >= 0;
    if (const long error = become_only_completer(CONTEXT_FD); error < 0)
        return fail("the completers' lock", error);
    const bool barriers = take_part_in_barriers();
    if (const char* what = give_up_privileges(user)) return fail(what, -errno);
    const int prepared = completes ? prepare() : prepare_performing();
    if (prepared != 0) return prepared;
    // Who relies on them may be whom we complete.
    if (context().barriers.load() != 0 && !barriers)
        return fail("taking part in barriers (membarrier)", -EPERM);
    void_claims(max_slots);
    const long started =
        start_crew(completes ? WORKERS : 1, max_slots, completes ? complete : perform, send);
    if (started < 0) return fail("starting the workers", started);
    // All is mapped: what it was mapped from is of no use to anybody any more.
    for (const int fd : {CONTEXT_FD, IMAGE_FD, POOL_FD, CAPTURES_FD, CONSTANTS_FD}) close(fd);
    if (const char* what = enter_filter(SOCKET_FD)) return fail(what, -errno);
    send({0, CompleterOutcome::ready, 0, 0, 0});
    CompleterJob job;
    for (;;) {
        if (!receive(job)) return 0;
        if (job.slot < max_slots && claim_slot(job.slot)) give_job(job.slot);
    }
}

u32 number(const char* text) { return static_cast<u32>(strtoul(text, nullptr, 10)); }

}  // namespace
}  // namespace aep

int main(int count, char** arguments) {
    if (count != 3) {
        fputs("aep-completer UID GID: started by the AEP daemon\n", stderr);
        return 2;
    }
    const int result = aep::serve({aep::number(arguments[1]), aep::number(arguments[2])});
    fflush(stderr);
    _exit(result);  // workers may be anywhere
}
