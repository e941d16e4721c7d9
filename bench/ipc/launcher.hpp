// Purpose: one run of one system: starts its processes, tells them when to begin and when to end, prints what they have measured.
// Who calls it: main() of each system's program. bench/ipc.py runs these; by hand:
//
//   aep_bench_ipc_SYSTEM PATTERN poll|sleep SIZE ms COUNT         so long
//   aep_bench_ipc_SYSTEM PATTERN poll|sleep SIZE messages COUNT   so many of each sender
//
//   PATTERN: stream, window, reply, to-4, from-4. Prints messages (received in all, of each receiver), and of what was measured
//     rate             messages a second; of several receivers the slowest's
//     p50_ns, p99_ns   of an exchange (reply); of 100 at least
//
// A *system* is a type with
//   Shared                  what its launcher makes for the processes: descriptors that they inherit, names
//   void make(plan, shared)    called in the launcher before there are processes
//   void unmake(plan, shared)  when all have what they need, or have failed: names can go
//   Sender, Receiver        an end: made with (plan, shared, path, number of the sender or receiver); meet() returns when the other
//                           side is there; send(fill) waits for room and has fill(memory) write the message where it is to be,
//                           receive(read) waits for a message and has read(memory) look at it where it lies
// Crash rule: a measuring program; its processes end with it, and it ends if one of them does.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <new>
#include <string>
#include <string_view>

#include "bench/ipc/part.hpp"

namespace aep::bench::ipc {

constexpr const char* PATTERNS[] = {"stream", "window", "reply", "to-4", "from-4"};

template <class System>
class Launcher {
    using Shared = typename System::Shared;
    using BoardOf = Board<Shared>;

  public:
    /// main() of a system's program.
    static int main(int count, char** words) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (count == 4 && std::string_view(words[1]) == "part") {
            Part<System>(*map(number(words[2])), static_cast<unsigned>(number(words[3]))).run();
            return 0;
        }
        Plan plan{};
        if (count != 6 || !understood(words, plan)) {
            std::fputs(
                "usage: PATTERN poll|sleep SIZE ms|messages COUNT; PATTERN: stream, window, reply, "
                "to-4, from-4\n",
                stderr);
            return 2;
        }
        Launcher(plan, number(words[5])).run();
        return 0;
    }

  private:
    Launcher(const Plan& plan, int milliseconds) : _plan(plan), _milliseconds(milliseconds) {
        _fd = memfd_create("board", 0);  // the processes inherit it
        expect(_fd >= 0 && ftruncate(_fd, sizeof(BoardOf)) == 0, "no memory to agree in");
        _board = map(_fd);
        _board->plan = plan;
        if (plan.messages != 0) measure();
    }

    static int number(const char* word) { return static_cast<int>(std::strtol(word, nullptr, 10)); }
    static bool understood(char** words, Plan& plan) {
        unsigned pattern = 0;
        while (pattern < std::size(PATTERNS) && std::string_view(words[1]) != PATTERNS[pattern])
            ++pattern;
        const std::string_view mode = words[2], unit = words[4];
        plan.pattern = static_cast<Pattern>(pattern);
        plan.mode = mode == "poll" ? Mode::POLL : Mode::SLEEP;
        plan.size = static_cast<std::size_t>(number(words[3]));
        plan.messages = unit == "messages" ? static_cast<std::uint64_t>(number(words[5])) : 0;
        return pattern < std::size(PATTERNS) && (mode == "poll" || mode == "sleep") &&
               (unit == "ms" || plan.messages != 0) && plan.size >= LINE && plan.size % LINE == 0;
    }
    static BoardOf* map(int fd) {
        void* const at = mmap(nullptr, sizeof(BoardOf), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        expect(at != MAP_FAILED, "no memory to agree in");
        return static_cast<BoardOf*>(at);  // it begins as zeroes
    }

    void measure() {
        _board->measure_ns = now_ns();
        _board->phase = MEASURE;
    }
    void run() {
        System::make(_plan, _board->shared);
        for (unsigned i = 0; i < _plan.parts(); ++i) start(i);
        wait_for(_board->ready, _plan.parts());
        System::unmake(_plan, _board->shared);
        _made = false;
        if (_plan.messages == 0) {
            wait_for(_board->begun, _plan.measuring());
            usleep(static_cast<useconds_t>(_milliseconds) * 500);  // memory and buffers become warm
            measure();
            usleep(static_cast<useconds_t>(_milliseconds) * 1000);
            wait_for(_board->measured, _plan.measuring());
            _board->phase = STOP;
        }
        wait_for(_board->done, _plan.parts());
        _board->phase = LEAVE;
        for (unsigned i = 0; i < _plan.parts(); ++i) {
            int status = 0;
            expect(wait(&status) > 0 && status == 0, "a process has failed at the end");
        }
        tell();
    }

    /// Executed anew: each process is as one that had been started by itself.
    void start(unsigned part) {
        const pid_t child = fork();
        expect(child >= 0, "no process");
        if (child != 0) return;
        const std::string fd = std::to_string(_fd), self = std::to_string(part);
        execl("/proc/self/exe", "part", "part", fd.c_str(), self.c_str(), nullptr);
        give_up("a process cannot be started");
    }
    void wait_for(const std::atomic<std::uint32_t>& count, unsigned of) {
        while (count.load() < of) {
            int status = 0;
            if (waitpid(-1, &status, WNOHANG) != 0) {
                if (_made) System::unmake(_plan, _board->shared);
                give_up("a process has failed");
            }
            usleep(500);
        }
    }

    void tell() const {
        double slowest = 0;
        for (unsigned i = 0; i < _plan.parts(); ++i) {
            const Result& part = _board->results[i];
            if (i >= _plan.senders()) print("messages", static_cast<double>(part.messages));
            if (_plan.pattern == Pattern::REPLY) {
                if (part.samples >= 100) {
                    print("p50_ns", part.p50_ns);
                    print("p99_ns", part.p99_ns);
                } else if (part.samples > 0) {
                    print("p50_ns", part.p50_ns);
                }
            } else if (part.seconds > 0) {
                const double rate = static_cast<double>(part.samples) / part.seconds;
                slowest = slowest == 0 ? rate : std::min(slowest, rate);
            }
        }
        if (slowest > 0) print("rate", slowest);
    }

    const Plan _plan;
    const int _milliseconds;
    int _fd = -1;
    BoardOf* _board = nullptr;
    bool _made = true;
};

}  // namespace aep::bench::ipc
