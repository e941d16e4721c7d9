// Purpose: tight pairs: malloc at once followed by free, one size; the shortest path an allocator
// has. Who calls it: main.cpp. Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"

namespace aep::bench {

namespace {

constexpr int PAIRS = 1000;

void pair(benchmark::State& state, std::size_t size) {
    measure(
        state, PAIRS,
        [size] {
            for (int i = 0; i < PAIRS; ++i) std::free(take(size));
        });
}

}  // namespace

void add_pairs() {
    for (const std::size_t size : {16, 64, 256, 1024}) {
        add_case(
            "pair/" + std::to_string(size), Clock::cpu, 10000,
            [size](benchmark::State& state) { pair(state, size); });
    }
}

}  // namespace aep::bench
