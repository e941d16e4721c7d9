// Purpose: calloc of small, medium and large objects: batches, so that both reused and fresh memory
// occur. Who calls it: main.cpp. Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"

#include <cstring>

namespace aep::bench {

namespace {

/// What the program does with a block: nothing, or writes all of it, so that it must be zeroed
/// again.
enum class Use { none, all };

void zeroed_batch(benchmark::State& state, std::size_t size, std::size_t count, Use use) {
    std::vector<void*> blocks(count);
    measure(state, static_cast<std::int64_t>(count), [&] {
        for (void*& block : blocks) {
            block = std::calloc(1, size);
            benchmark::DoNotOptimize(block);
            if (block == nullptr) [[unlikely]]
                out_of_memory(size);
            if (use == Use::all) std::memset(block, 1, size);
        }
        for (void* block : blocks) std::free(block);
    });
}

void add(const std::string& name, std::size_t size, std::size_t count, std::int64_t iterations,
         Use use = Use::none) {
    add_case(
        "calloc/" + name, Clock::cpu, iterations,
        [=](benchmark::State& state) { zeroed_batch(state, size, count, use); });
}

}  // namespace

void add_zeroed() {
    add("small_64", 64, 1000, 5000);
    add("medium_8k", 8 * 1024, 100, 500);
    add("large_256k", 256 * 1024, 10, 150);
    add("recycled_64", 64, 1000, 3000, Use::all);
    add("recycled_8k", 8 * 1024, 100, 300, Use::all);
    add("recycled_8m", 8 << 20, 1, 10, Use::all);
}

}  // namespace aep::bench
