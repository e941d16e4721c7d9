// Purpose: how long after a send the receiver has the message that sleeps for it, on another node or on the same, and what the
//          sleep costs of a processor.
// Who calls it: bench/wake.py, with our library preloaded and a context to join.
// Crash rule: a measuring program.
//
//   aep_bench_wake sleep NAME MESSAGES MS   says "ready", receives so many, or waits so long if that is 0; prints
//     p50_us, p99_us, worst_us   from before the send until the receive has returned (the system's clock is all nodes')
//     share                      of a processor, its own time while it waited and received
//   aep_bench_wake send NAME MESSAGES GAP_US
//   aep_bench_wake load PROCESSES           works until it is ended
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <string_view>

#include "bench/dsm/timing.hpp"
#include "include/aep/dsm.h"

namespace {

using namespace aep::bench;

struct Stamped {
    double sent_ns;
};

double percentile(const std::vector<double>& sorted, double share) {
    return sorted.empty()
               ? 0
               : sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
}

void sleep_for(unsigned messages, int milliseconds) {
    std::vector<double> waits;
    std::puts("ready");
    std::fflush(stdout);
    const double begin = now_ns(), busy = process_ns();
    if (messages == 0)
        expect(dsm_recv(DSM_ANY, milliseconds, nullptr) == nullptr, "somebody has sent something");
    while (waits.size() < messages) {
        auto* got = static_cast<Stamped*>(dsm_recv(DSM_ANY, -1, nullptr));
        expect(got != nullptr, "a receive failed");
        waits.push_back((now_ns() - got->sent_ns) / 1000);
        expect(dsm_free(got) == 0, "not ours to drop");
    }
    const double used = process_ns() - busy, passed = now_ns() - begin;
    std::sort(waits.begin(), waits.end());
    print("p50_us", percentile(waits, 0.5));
    print("p99_us", percentile(waits, 0.99));
    print("worst_us", percentile(waits, 1));
    print("share", used / passed);
}

void send_each(const char* name, unsigned messages, unsigned gap_us) {
    const dsm_id peer = dsm_lookup(name);
    expect(peer != 0, "no such peer");
    prctl(PR_SET_TIMERSLACK, 1);  // the gap is what was asked for
    for (unsigned i = 0; i < messages; ++i) {
        usleep(gap_us);
        auto* message = static_cast<Stamped*>(dsm_malloc(sizeof(Stamped)));
        expect(message != nullptr, "no memory");
        message->sent_ns = now_ns();
        expect(dsm_send_wait(peer, message, -1) == 0, "a send failed");
        expect(dsm_free(message) == 0, "not ours to drop");
    }
}

[[noreturn]] void work(unsigned processes) {
    for (unsigned i = 1; i < processes; ++i) {
        if (fork() != 0) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        break;
    }
    for (volatile unsigned long n = 0;;) n = n + 1;
}

}  // namespace

int main(int count, char** arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const std::string_view what = count > 1 ? arguments[1] : "";
    const auto number = [&](int i) {
        return static_cast<unsigned>(std::strtoul(arguments[i], nullptr, 10));
    };
    if (what == "load" && count == 3) work(number(2));
    if (count != 5 || (what != "sleep" && what != "send")) {
        std::fputs(
            "usage: aep_bench_wake sleep NAME MESSAGES MS | send NAME MESSAGES GAP_US | load "
            "PROCESSES\n",
            stderr);
        return 2;
    }
    expect(dsm_attach(what == "sleep" ? arguments[2] : nullptr) == 0,
           "cannot take part in sharing");
    if (what == "sleep")
        sleep_for(number(3), static_cast<int>(number(4)));
    else
        send_each(arguments[2], number(3), number(4));
    return 0;
}
