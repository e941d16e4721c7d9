// Purpose: what sharing costs by numbers: a message by how many receive the same object, a death by how much the dead client
//          and others hold.
// Who calls it: bench/growth.py and bench/scale.py, with our library preloaded and a context to join.
// Crash rule: a measuring program; its children end with it.
//
//   aep_bench_growth broadcast RECEIVERS MESSAGES   one object, so many times to each of so many clients; prints, of processor time,
//     send_ns      of one send, while nobody receives
//     receive_ns   of one receive and its drop; the mean of all receivers
//   aep_bench_growth hold OBJECTS OTHERS            one client is sent so many objects and another one so many others; prints the
//                                                    first one's process when both hold theirs, and waits to be ended
//   aep_bench_growth take NAME OBJECTS              is sent so many objects by that name, says so, and waits to be ended; and
//   aep_bench_growth give NAME OBJECTS              sends them, keeps them, says so, and waits
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <string_view>

#include "bench/dsm/timing.hpp"
#include "include/aep/dsm.h"

namespace {

using namespace aep::bench;

/// Children are told that it is time by the end of this pipe, and tell what they have to say by the other one.
struct Pipes {
    int begin[2], told[2];

    Pipes() { expect(pipe(begin) == 0 && pipe(told) == 0, "no pipe"); }
    template <class T>
    void tell(const T& value) const {
        expect(write(told[1], &value, sizeof value) == sizeof value, "nobody listens");
    }
    template <class T>
    T hear() const {
        T value{};
        expect(read(told[0], &value, sizeof value) == sizeof value, "a child is gone");
        return value;
    }
};

/// A client of its own, which says who it is and does that.
template <class Do>
pid_t client(const Pipes& pipes, Do&& what) {
    const pid_t child = fork();
    expect(child >= 0, "no process");
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(pipes.begin[1]);
    expect(dsm_attach(nullptr) == 0, "a child cannot take part in sharing");
    pipes.tell(dsm_self());
    what();
    _exit(0);
}

void receive_one() { expect(dsm_free(dsm_recv(DSM_ANY, -1, nullptr)) == 0, "a message is lost"); }

void receive_all(const Pipes& pipes, unsigned messages) {
    char byte;
    expect(read(pipes.begin[0], &byte, 1) == 0, "the begin");
    receive_one();  // the first object opens the pool
    const double begin = process_ns();
    for (unsigned i = 1; i < messages; ++i) receive_one();
    pipes.tell((process_ns() - begin) / (messages - 1));
}

void broadcast(unsigned receivers, unsigned messages) {
    const Pipes pipes;
    std::vector<dsm_id> all;
    for (unsigned i = 0; i < receivers; ++i) {
        client(pipes, [&] { receive_all(pipes, messages); });
        all.push_back(pipes.hear<dsm_id>());
    }
    expect(dsm_attach(nullptr) == 0, "cannot take part in sharing");
    void* const object = dsm_malloc(64);
    for (const dsm_id to : all)
        expect(dsm_send(to, object) == 0, "a send failed");  // the first one costs more
    const double begin = process_ns();
    for (unsigned i = 1; i < messages; ++i)
        for (const dsm_id to : all) expect(dsm_send(to, object) == 0, "a send failed");
    print("send_ns", (process_ns() - begin) / (messages - 1) / receivers);
    close(pipes.begin[1]);
    double sum = 0;
    for (unsigned i = 0; i < receivers; ++i) sum += pipes.hear<double>();
    print("receive_ns", sum / receivers);
}

void hold_all(const Pipes& pipes, unsigned objects) {
    for (unsigned i = 0; i < objects; ++i)
        expect(dsm_recv(DSM_ANY, -1, nullptr) != nullptr, "a message is lost");
    pipes.tell(0.0);
    for (;;) pause();
}

void hold(unsigned objects, unsigned others) {
    const Pipes pipes;
    std::signal(SIGCHLD, SIG_IGN);  // a child that is ended is gone at once
    const pid_t first = client(pipes, [&] { hold_all(pipes, objects); });
    const dsm_id to_first = pipes.hear<dsm_id>();
    client(pipes, [&] { hold_all(pipes, others); });
    const dsm_id to_other = pipes.hear<dsm_id>();
    expect(dsm_attach(nullptr) == 0, "cannot take part in sharing");
    const auto give = [](dsm_id to, unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            void* const object = dsm_malloc(64);
            expect(object != nullptr && dsm_send_wait(to, object, -1) == 0, "a send failed");
        }
    };
    give(to_first, objects);
    give(to_other, others);
    for (int i = 0; i < 2; ++i) pipes.hear<double>();
    std::printf("%d\n", first);
    std::fflush(stdout);
    for (;;) pause();
}

[[noreturn]] void wait_to_be_ended() {
    std::puts("done");
    std::fflush(stdout);
    for (;;) pause();
}

void take(const char* name, unsigned objects) {
    expect(dsm_attach(name) == 0, "cannot take part in sharing");
    std::puts("here");
    std::fflush(stdout);
    for (unsigned i = 0; i < objects; ++i)
        expect(dsm_recv(DSM_ANY, -1, nullptr) != nullptr, "a message is lost");
    wait_to_be_ended();
}

void give(const char* name, unsigned objects) {
    expect(dsm_attach(nullptr) == 0, "cannot take part in sharing");
    const dsm_id to = dsm_lookup_wait(name, 10'000);
    expect(to > 0, "nobody of that name");
    for (unsigned i = 0; i < objects; ++i) {
        void* const object = dsm_malloc(64);
        expect(object != nullptr && dsm_send_wait(to, object, -1) == 0, "a send failed");
    }
    wait_to_be_ended();
}

}  // namespace

int main(int count, char** arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const std::string_view what = count == 4 ? arguments[1] : "";
    const auto number = [&](int i) {
        return static_cast<unsigned>(std::strtoul(arguments[i], nullptr, 10));
    };
    if (what == "broadcast") {
        broadcast(number(2), number(3));
    } else if (what == "hold") {
        hold(number(2), number(3));
    } else if (what == "take") {
        take(arguments[2], number(3));
    } else if (what == "give") {
        give(arguments[2], number(3));
    } else {
        std::fputs(
            "usage: aep_bench_growth broadcast RECEIVERS MESSAGES | hold OBJECTS OTHERS | take "
            "NAME OBJECTS | give NAME OBJECTS\n",
            stderr);
        return 2;
    }
    return 0;
}
