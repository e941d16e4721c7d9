// Purpose: calloc of small, medium and large objects: batches, so that both reused and fresh memory
// occur. Who calls it: main.cpp. Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"

namespace aep::bench {

namespace {

void zeroed_batch(benchmark::State& state, std::size_t size, std::size_t count) {
    std::vector<void*> blocks(count);
    measure(state, static_cast<std::int64_t>(count), [&] {
        for (void*& block : blocks) {
            block = std::calloc(1, size);
            benchmark::DoNotOptimize(block);
            if (block == nullptr) [[unlikely]] {
                out_of_memory(size);
            }
        }
        for (void* block : blocks) {
            std::free(block);
        }
    });
}

void add(const std::string& name, std::size_t size, std::size_t count, std::int64_t iterations) {
    add_case("calloc/" + name, Clock::cpu, iterations,
             [=](benchmark::State& state) { zeroed_batch(state, size, count); });
}

}  // namespace

void add_zeroed() {
    add("small_64", 64, 1000, 5000);
    add("medium_8k", 8 * 1024, 100, 500);
    add("large_256k", 256 * 1024, 10, 150);
}

}  // namespace aep::bench
