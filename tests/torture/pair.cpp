// Purpose: two clients that share with each other and with nobody else: objects to and fro, and groups.
// Who calls it: stopped_clients.cpp, under the preload library, in the environment of a context's client.
// Crash rule: the one dies with the other (PR_SET_PDEATHSIG), and both with the test.
//
// pair ROUNDS: says "ready" when a first turn of so many rounds is over, then does another one for each line of its input and
// says "done". Its status is not 0 if anything fails.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "include/aep/dsm.h"

namespace {

constexpr int ANSWER_MS = 60'000;
/// Of a class of which a page has few: the fewer addresses, the less likely does one of them share its stripe of the address
/// table with what somebody else has locked.
constexpr size_t BYTES = 16'000;

[[noreturn]] void die(const char* what) {
    fprintf(stderr, "pair: %s: %s\n", what, strerror(errno));
    _exit(1);
}

/// An object of its own, or a group with a part, goes to the other, which sends it back.
void ask(dsm_id other, unsigned round) {
    dsm_group* const group = round % 8 == 0 ? dsm_group_create(0) : nullptr;
    void* const object = group != nullptr ? dsm_group_alloc(group, 100) : dsm_malloc(BYTES);
    if (object == nullptr) die("no object");
    memset(object, static_cast<int>(round), 64);
    if (group != nullptr && dsm_group_set_root(group, object) != 0) die("no root");
    if (dsm_send(other, object) != 0) die("send");
    if (dsm_recv(other, ANSWER_MS, nullptr) != object) die("another object comes back");
    if (dsm_free(object) != 0 || dsm_free(object) != 0) die("free");
}

/// With its reference, or before that goes.
void answer(dsm_id other, bool with_it) {
    void* const object = dsm_recv(DSM_ANY, -1, nullptr);
    if (object == nullptr) die("receive");
    if (dsm_send_message(other, object, nullptr, 0, with_it ? DSM_DROP : 0) != 0) die("send back");
    if (with_it) return;
    if (dsm_free(object) != 0) die("drop");
}

dsm_id exchange(int from, int to) {
    const dsm_id self = dsm_self();
    dsm_id other = 0;
    if (write(to, &self, sizeof self) != sizeof self ||
        read(from, &other, sizeof other) != sizeof other)
        die("the other one is gone");
    return other;
}

}  // namespace

int main(int count, char** arguments) {
    const unsigned rounds = count == 2 ? static_cast<unsigned>(atoi(arguments[1])) : 0;
    int down[2], up[2];
    if (rounds == 0 || pipe(down) != 0 || pipe(up) != 0) die("usage: pair ROUNDS");
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dsm_attach(nullptr) != 0) die("attach");
    if (child == 0) {
        const dsm_id other = exchange(down[0], up[1]);
        for (unsigned i = 0;; ++i) answer(other, i % 2 == 0);
    }
    const dsm_id other = exchange(up[0], down[1]);
    char line[16];
    for (const char* said = "ready";; said = "done") {
        for (unsigned i = 0; i < rounds; ++i) ask(other, i);
        puts(said);
        fflush(stdout);
        if (fgets(line, sizeof line, stdin) == nullptr) return 0;
    }
}
