// Purpose: aligned_alloc: cache-line, OS-page and 64 KiB alignment, a batch of objects each.
// Who calls it: main.cpp.
// Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"

namespace aep::bench {

namespace {

void aligned_batch(benchmark::State& state, std::size_t alignment, std::size_t size,
                   std::size_t count) {
    std::vector<void*> blocks(count);
    measure(state, static_cast<std::int64_t>(count), [&] {
        for (void*& block : blocks) {
            block = std::aligned_alloc(alignment, size);
            benchmark::DoNotOptimize(block);
            if (block == nullptr) [[unlikely]]
                out_of_memory(size);
        }
        for (void* block : blocks) std::free(block);
    });
}

void add(std::size_t alignment, std::size_t size, std::size_t count, std::int64_t iterations) {
    add_case(
        "aligned/" + std::to_string(size) + "_at_" + std::to_string(alignment), Clock::cpu,
        iterations, [=](benchmark::State& state) { aligned_batch(state, alignment, size, count); });
}

}  // namespace

void add_aligned() {
    add(64, 192, 1000, 1500);
    add(4096, 4096, 200, 600);
    add(65536, 65536, 20, 1000);
}

}  // namespace aep::bench
