// Purpose: aep-completer: finishes the operations of killed threads, one worker thread each; with a
//          kernel that does that itself, performs those of the host.
// Who calls it: the daemon (start_completer), with the descriptors of CompleterFds from 3 on.
// Crash rule: see complete.cpp. It ends when the daemon's end of the socket is closed; operations
//             that its workers are in the middle of are then captured, for the next completer.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>

#include "aep-lib/completer/complete.hpp"
#include "aep-lib/completer/world.hpp"

namespace aep {
namespace {

constexpr int CONTEXT_FD = FIRST_COMPLETER_FD;
constexpr int IMAGE_FD = CONTEXT_FD + 1;
constexpr int POOL_FD = CONTEXT_FD + 2;
constexpr int CAPTURES_FD = CONTEXT_FD + 3;
constexpr int SOCKET_FD = CONTEXT_FD + 4;
constexpr usize WORKER_STACK = 256 * KiB;
constexpr usize SIGNAL_STACK = 64 * KiB;

volatile CaptureEntry* captures = nullptr;  // null: the kernel completes

/// Claimed slots that no worker has begun with, and the workers that wait for one. A worker can be
/// stuck in its operation for as long as another one's holds a lock: so no job may wait for a
/// worker, and a job that finds none idle gets a new one.
pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t more = PTHREAD_COND_INITIALIZER;
std::deque<u32> waiting;
usize idle = 0;

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

u32 next_slot() {
    pthread_mutex_lock(&mutex);
    ++idle;
    while (waiting.empty()) pthread_cond_wait(&more, &mutex);
    --idle;
    const u32 slot = waiting.front();
    waiting.pop_front();
    pthread_mutex_unlock(&mutex);
    return slot;
}

void* work(void*) {
    alignas(64) char room[SIGNAL_STACK];
    become_worker(room, sizeof room);
    for (;;) {
        const u32 slot = next_slot();
        const CompleterReport report =
            captures != nullptr ? complete_slot(slot, captures) : perform_slot(slot);
        release_slot(slot);
        send(report);
    }
}

void add_worker() {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WORKER_STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    // If there can be no more threads, the job waits for the next worker that becomes idle.
    pthread_create(&thread, &attributes, work, nullptr);
    pthread_attr_destroy(&attributes);
}

void give(u32 slot) {
    pthread_mutex_lock(&mutex);
    waiting.push_back(slot);
    const bool enough = idle >= waiting.size();
    if (enough) pthread_cond_signal(&more);
    pthread_mutex_unlock(&mutex);
    if (!enough) add_worker();
}

int fail(const char* what, long error) {
    fprintf(stderr, "aep-completer: %s: %s\n", what, strerror(static_cast<int>(-error)));
    return 1;
}

bool map_captures() {
    const usize bytes = round_up(usize{context().max_slots} * sizeof(CaptureEntry), OS_PAGE_SIZE);
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, CAPTURES_FD, 0);
    if (at == MAP_FAILED) return false;
    captures = static_cast<volatile CaptureEntry*>(at);
    return true;
}

/// Gives up all that the tenant has not.
bool become_user(const char* uid, const char* gid) {
    const auto number = [](const char* text) {
        return static_cast<unsigned>(strtoul(text, nullptr, 10));
    };
    const uid_t user = number(uid);
    const gid_t group = number(gid);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (geteuid() != 0) return geteuid() == user;
    if (user == 0) return true;
    return setgroups(0, nullptr) == 0 && setresgid(group, group, group) == 0 &&
           setresuid(user, user, user) == 0;
}

/// To complete what others have begun.
int prepare() {
    long error = 0;
    if (const char* what = map_world(CONTEXT_FD, IMAGE_FD, POOL_FD, error)) {
        return fail(what, error);
    }
    if (!map_captures()) return fail("mapping the captures", -errno);
    error = prepare_completing();
    return error < 0 ? fail("preparing the signals", error) : 0;
}

/// To perform the host's operations, which the kernel completes, or which are undone if we die.
int prepare_performing() {
    send({0, CompleterOutcome::started, 0, 0, 0});
    CompleterJob begin;
    if (!receive(begin) || begin.slot != BEGIN_JOB) return 1;
    long error = 0;
    const char* what = map_world_to_perform(CONTEXT_FD, IMAGE_FD, POOL_FD, error);
    return what != nullptr ? fail(what, error) : 0;
}

int serve(const char* uid, const char* gid) {
    // Before anything is opened in its place.
    const bool completes = fcntl(CAPTURES_FD, F_GETFD) >= 0;
    if (const long error = become_only_completer(CONTEXT_FD); error < 0) {
        return fail("the completers' lock", error);
    }
    if (!become_user(uid, gid)) return fail("becoming the tenant", -EPERM);
    const int prepared = completes ? prepare() : prepare_performing();
    if (prepared != 0) return prepared;
    void_claims();
    add_worker();
    send({0, CompleterOutcome::ready, 0, 0, 0});
    CompleterJob job;
    for (;;) {
        if (!receive(job)) return 0;
        if (job.slot < context().max_slots && claim_slot(job.slot)) give(job.slot);
    }
}

}  // namespace
}  // namespace aep

int main(int count, char** arguments) {
    if (count != 3) {
        fputs("aep-completer UID GID: started by the AEP daemon\n", stderr);
        return 2;
    }
    const int result = aep::serve(arguments[1], arguments[2]);
    fflush(stderr);
    _exit(result);  // workers may be anywhere
}
