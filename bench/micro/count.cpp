// Purpose: aep_bench_count: the loops whose instructions are counted. Each phase is a function of
// its own
//          name, so that callgrind's --toggle-collect can count that phase alone; the loop around
//          the calls is counted by the same loop with an empty function.
// Who calls it: bench/driver/instructions.py under callgrind:
//                    aep_bench_count local|remote|control|spread|spread_control ROUNDS
// Crash rule: nothing outlives the process.
//
// Threads take turns with a mutex and a condition variable, whose instructions lie outside every
// phase.
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

namespace {

constexpr int BATCH = 1000;
constexpr std::size_t SIZE = 64;
void* blocks[BATCH];

/// For pairs over a live set far beyond the first-level cache: each line that a pair touches is
/// missed there.
constexpr unsigned SPREAD = 200'000;
void** spread;
unsigned places[BATCH];

void draw_places() {
    static unsigned state = 1;
    for (unsigned& place : places) {
        state = state * 1664525U + 1013904223U;
        place = static_cast<unsigned>((std::uint64_t{state} * SPREAD) >> 32U);
    }
}

/// Two threads that alternate: whose turn it is, and whether it is over.
struct Turns {
    std::mutex mutex;
    std::condition_variable changed;
    int turn = 0;
    bool over = false;

    /// Waits for `mine`; false when it is over.
    bool wait_for(int mine) {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return turn == mine || over; });
        return !over;
    }
    void pass_to(int other) {
        const std::lock_guard lock(mutex);
        turn = other;
        changed.notify_all();
    }
    void end() {
        const std::lock_guard lock(mutex);
        over = true;
        changed.notify_all();
    }
};

}  // namespace

extern "C" {

__attribute__((noinline)) void* aep_count_nothing(std::size_t size) {
    asm volatile("" ::"r"(size));
    return nullptr;
}

__attribute__((noinline)) void aep_count_malloc() {
    for (void*& block : blocks) block = std::malloc(SIZE);
}

__attribute__((noinline)) void aep_count_free() {
    for (void* block : blocks) std::free(block);
}

__attribute__((noinline)) void aep_count_remote_free() {
    for (void* block : blocks) std::free(block);
}

__attribute__((noinline)) void aep_count_control() {
    for (void*& block : blocks) block = aep_count_nothing(SIZE);
}

__attribute__((noinline)) void aep_count_spread() {
    for (const unsigned place : places) {
        std::free(spread[place]);
        spread[place] = std::malloc(SIZE);
    }
}

__attribute__((noinline)) void aep_count_spread_control() {
    for (const unsigned place : places) {
        aep_count_nothing(reinterpret_cast<std::size_t>(spread[place]));
        aep_count_nothing(SIZE);
        asm volatile("" : "+m"(spread[place]));
    }
}

}  // extern "C"

namespace {

void run_spread(int rounds, void (*phase)()) {
    spread = static_cast<void**>(std::malloc(SPREAD * sizeof(void*)));
    for (unsigned i = 0; i < SPREAD; ++i) spread[i] = std::malloc(SIZE);
    for (int round = 0; round < rounds; ++round) {
        draw_places();
        phase();
    }
}

void run_local(int rounds) {
    for (int round = 0; round < rounds; ++round) {
        aep_count_malloc();
        aep_count_free();
    }
}

void run_remote(int rounds) {
    Turns turns;
    std::thread freer([&] {
        while (turns.wait_for(1)) {
            aep_count_remote_free();
            turns.pass_to(0);
        }
    });
    for (int round = 0; round < rounds; ++round) {
        aep_count_malloc();
        turns.pass_to(1);
        turns.wait_for(0);
    }
    turns.end();
    freer.join();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s local|remote|control|spread|spread_control ROUNDS\n",
                     argv[0]);
        return 2;
    }
    const int rounds = std::atoi(argv[2]);
    if (std::strcmp(argv[1], "local") == 0)
        run_local(rounds);
    else if (std::strcmp(argv[1], "remote") == 0)
        run_remote(rounds);
    else if (std::strcmp(argv[1], "spread") == 0)
        run_spread(rounds, aep_count_spread);
    else if (std::strcmp(argv[1], "spread_control") == 0)
        run_spread(rounds, aep_count_spread_control);
    else
        for (int round = 0; round < rounds; ++round) aep_count_control();
    return 0;
}
