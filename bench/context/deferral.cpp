// Purpose: how long a kill waits for an operation that is open: from kill(2) to the operation's
// end,
//          seen in the client's slot from outside.
// Who calls it: bench/kernel.py, on a kernel that protects operations.
// Crash rule: a measuring program; its clients die with it.
//
//   aep_bench_deferral NODE_CLIENT SOCKET CONTEXT_FILE KILLS
//
// Prints a line for each kill that came while an operation was open: nanoseconds to its end, and
// until the process was gone.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "shim/context/context_file.hpp"

namespace {

using namespace aep;

u64 now_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
}

[[noreturn]] void fail(const char* what) {
    std::perror(what);
    std::exit(1);
}

/// Where a process and what it starts run: who waits for the end of an operation must not take the
/// processor from it.
void pin_to(int processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) fail("two processors are needed");
}

/// A client that performs operations without a pause.
struct Client {
    pid_t pid = -1;
    u32 index = 0;

    Client(const char* program, const char* socket) {
        int in[2], out[2];
        if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) fail("pipe");
        pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            pin_to(1);
            dup2(in[0], 0);
            dup2(out[1], 1);
            execl(program, program, socket, nullptr);
            _exit(127);
        }
        close(in[0]);
        close(out[1]);
        FILE* said = fdopen(out[0], "r");
        char line[256];
        if (said == nullptr || std::fgets(line, sizeof line, said) == nullptr ||
            std::sscanf(line, "client %u", &index) != 1)
            fail("the client does not attach");
        if (write(in[1], "churn\n", 6) != 6 || std::fgets(line, sizeof line, said) == nullptr)
            fail("the client does not work");
        std::fclose(said);
        close(in[1]);
    }
};

Slot* slot_of(u32 client) {
    for (u32 i = 0; i < context().max_slots; ++i)
        if (SlotOwner{slot_at(i).owner.load()}.client() == client) return &slot_at(i);
    return nullptr;
}

/// The end of what was open at the kill; 0: nothing was.
u64 kill_and_watch(const Client& client, const Slot& slot, u64& gone) {
    const u32 sequence = slot.sequence.load();
    const u64 begin = now_ns();
    kill(client.pid, SIGKILL);
    u64 ended = 0;
    if (sequence % 2 != 0) {
        while (slot.sequence.load() == sequence && now_ns() - begin < 60'000'000'000)
            __builtin_ia32_pause();
        ended = now_ns() - begin;
    }
    waitpid(client.pid, nullptr, 0);
    gone = now_ns() - begin;
    return ended;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) return 2;
    pin_to(0);
    const int fd = open(arguments[3], O_RDWR | O_CLOEXEC);
    ContextHeader header;
    if (fd < 0 || verify_context(fd, header) || map_control(fd, header) != 0) fail(arguments[3]);
    std::mt19937 random(1);
    for (int i = std::atoi(arguments[4]); i > 0; --i) {
        const Client client(arguments[1], arguments[2]);
        const Slot* slot = slot_of(client.index);
        if (slot == nullptr) fail("the client has no slot");
        usleep(static_cast<useconds_t>(1000 + random() % 5000));
        u64 gone = 0;
        const u64 ended = kill_and_watch(client, *slot, gone);
        if (ended != 0) {
            std::printf("%llu %llu\n", static_cast<unsigned long long>(ended),
                        static_cast<unsigned long long>(gone));
        }
    }
}
