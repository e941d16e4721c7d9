// Purpose: first-line touch: allocate a batch, write the first word of each object, free them in
// order.
//          Charges the cache misses that an allocator spares, or causes, where the objects are
//          used.
// Who calls it: main.cpp.
// Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"

namespace aep::bench {

namespace {

void touched_batch(benchmark::State& state, std::size_t size, std::size_t count) {
    std::vector<void*> blocks(count);
    measure(state, static_cast<std::int64_t>(count), [&] {
        for (void*& block : blocks) block = take(size);
        for (void* block : blocks) touch(block);
        for (void* block : blocks) std::free(block);
    });
}

void add(std::size_t size, std::size_t count, std::int64_t iterations) {
    add_case(
        "touch/" + std::to_string(size) + "x" + std::to_string(count), Clock::cpu, iterations,
        [=](benchmark::State& state) { touched_batch(state, size, count); });
}

}  // namespace

void add_first_touch() {
    add(64, 1000, 6000);
    add(256, 10'000, 60);
    add(4096, 1000, 200);
}

}  // namespace aep::bench
