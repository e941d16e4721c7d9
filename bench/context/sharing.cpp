// Purpose: what the operations of sharing cost, each case by itself, in one process.
// Who calls it: bench/context.py, with our library preloaded and a context to join.
// Crash rule: a measuring program.
//
//   aep_bench_sharing CASE N     ns of one of what the case says, median of 21 batches of N
//     transfer    a send to oneself, the receive and the drop: three operations
//     reference   a reference taken and dropped: two operations
//     first       a block's first reference and its last: two operations, a malloc and a free
//     call        a request sent, received, answered by a new object and forgotten: 8 operations
//     group       a group made, its root set, closed
//     extents     the same with four extents
//   aep_bench_sharing topic N     ns of a publication of one object to N subscribers, and of a take and its drop, in a topic that is full
//   aep_bench_sharing churn FD    references taken and dropped until it is killed; FD: a Churn
//   aep_bench_sharing alive N    exports N objects and waits to be killed
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "bench/context/churn.hpp"
#include "bench/dsm/timing.hpp"
#include "include/aep/dsm.h"

namespace {

using namespace aep::bench;

/// Prints the median over batches of the time of one call.
template <class F>
int measure(unsigned calls, F&& call) {
    constexpr unsigned BATCHES = 21;
    std::vector<double> times;
    for (unsigned b = 0; b < BATCHES; ++b) {
        const double begin = now_ns();
        for (unsigned i = 0; i < calls; ++i) call();
        times.push_back((now_ns() - begin) / calls);
    }
    std::printf("%.1f\n", median(times));
    return 0;
}

void* allocate(std::size_t size) {
    void* object = std::malloc(size);
    expect(object != nullptr, "no memory");
    return object;
}
void good(int result) { expect(result == 0, "an operation failed"); }

void* receive(dsm_id from) {
    void* object = dsm_recv(from, 0, nullptr);
    expect(object != nullptr, "a message is lost");
    return object;
}

int transfer(unsigned n) {
    void* object = allocate(64);
    const dsm_id self = dsm_self();
    return measure(n, [&] {
        good(dsm_send(self, object));
        good(dsm_free(receive(self)));
    });
}

int reference(unsigned n) {
    void* object = allocate(64);
    good(dsm_ref(object));
    return measure(n, [&] {
        good(dsm_ref(object));
        good(dsm_free(object));
    });
}

int first(unsigned n) {
    return measure(
        n,
        [] {
            void* object = allocate(64);
            good(dsm_ref(object));
            good(dsm_free(object));
            good(dsm_free(object));
        });
}

/// As examples/rpc.cpp has it, without the second process: what is left is the operations.
int call(unsigned n) {
    void* request = allocate(64);
    const dsm_id self = dsm_self();
    return measure(n, [&] {
        good(dsm_send(self, request));
        void* seen = receive(self);
        void* reply = allocate(64);
        good(dsm_send(self, reply));
        good(dsm_free(reply));
        good(dsm_free(seen));
        good(dsm_free(receive(self)));
    });
}

void one_group(unsigned extents) {
    dsm_group* group = dsm_group_create(0);
    expect(group != nullptr, "no group");
    void* root = dsm_group_alloc(group, 64);
    for (unsigned i = 0; i < extents; ++i) {
        // Each is more than the group has so far.
        expect(dsm_group_alloc(group, dsm_group_bytes(group)) != nullptr, "no memory");
    }
    good(dsm_group_set_root(group, root));
    good(dsm_group_close(group));
}

/// The oldest of what the topic keeps goes with each publication. Subscribers are all of this process: what each of them holds is one reference more.
int topic(unsigned subscribers) {
    constexpr unsigned BATCHES = 21, PUBLICATIONS = 256;
    void* object = allocate(64);
    const auto open = [] {
        const dsm_topic opened = dsm_topic_open("bench", PUBLICATIONS, 0);
        expect(opened != 0, "no topic");
        return opened;
    };
    const dsm_topic mine = open();
    std::vector<dsm_topic> theirs(subscribers);
    for (dsm_topic& one : theirs) good(dsm_topic_subscribe(one = open(), nullptr));
    std::vector<double> publish, take;
    for (unsigned b = 0; b <= BATCHES; ++b) {
        const double begin = now_ns();
        for (unsigned i = 0; i < PUBLICATIONS; ++i)
            good(dsm_topic_publish(mine, object, nullptr, 0, 0));
        const double published = now_ns();
        for (const dsm_topic one : theirs)
            for (unsigned i = 0; i < PUBLICATIONS; ++i)
                good(dsm_free(dsm_topic_take(one, 0, nullptr, 0, nullptr)));
        if (b == 0) continue;  // it was not full
        publish.push_back((published - begin) / PUBLICATIONS);
        take.push_back((now_ns() - published) / PUBLICATIONS / subscribers);
    }
    std::printf("%.1f %.1f\n", median(publish), median(take));
    return 0;
}

int churn(int fd) {
    void* page = mmap(nullptr, sizeof(Churn), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    expect(page != MAP_FAILED, "mmap");
    Churn& out = *static_cast<Churn*>(page);
    void* object = allocate(64);
    for (auto before = static_cast<std::uint64_t>(now_ns());;) {
        good(dsm_ref(object));
        good(dsm_free(object));
        const auto now = static_cast<std::uint64_t>(now_ns());
        if (now - before > LONG_NS) {
            out.ended_ns[out.held_up % Churn::KEPT] = now;
            ++out.held_up;
        }
        ++out.operations;
        before = now;
    }
}

int alive(unsigned objects) {
    for (unsigned i = 0; i < objects; ++i) good(dsm_ref(allocate(64)));
    for (;;) pause();
}

int run(std::string_view what, unsigned n) {
    if (what == "transfer") return transfer(n);
    if (what == "reference") return reference(n);
    if (what == "first") return first(n);
    if (what == "call") return call(n);
    if (what == "group") return measure(n, [] { one_group(0); });
    if (what == "extents") return measure(n, [] { one_group(4); });
    if (what == "topic") return topic(n);
    if (what == "churn") return churn(static_cast<int>(n));
    if (what == "alive") return alive(n);
    return 2;
}

}  // namespace

int main(int count, char** arguments) {
    const unsigned n =
        count == 3 ? static_cast<unsigned>(std::strtoul(arguments[2], nullptr, 10)) : 0;
    int status = 2;
    if (n != 0) {
        expect(dsm_attach(nullptr) == 0, "no client of a context");
        status = run(arguments[1], n);
    }
    if (status == 2) {
        std::fputs(
            "usage: aep_bench_sharing "
            "transfer|reference|first|call|group|extents|topic|churn|alive N\n",
            stderr);
    }
    return status;
}
