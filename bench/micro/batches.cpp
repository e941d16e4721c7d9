// Purpose: batches: allocate 1000 objects, then free them all, last first, first first, or in
// random order. Who calls it: main.cpp. Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace aep::bench {

namespace {

constexpr std::size_t BATCH = 1000;

enum class Order { lifo, fifo, random };

/// The order in which the objects of a batch are freed. Random: one fixed permutation.
std::vector<std::uint32_t> free_order(Order order) {
    std::vector<std::uint32_t> indices(BATCH);
    std::iota(indices.begin(), indices.end(), 0U);
    if (order == Order::lifo) std::reverse(indices.begin(), indices.end());
    if (order == Order::random) {
        Rng rng(1);
        for (std::uint32_t i = BATCH - 1; i > 0; --i)
            std::swap(indices[i], indices[rng.below(i + 1)]);
    }
    return indices;
}

void batch(benchmark::State& state, const Sizes& sizes, Order order) {
    const std::vector<std::uint32_t> indices = free_order(order);
    std::vector<void*> blocks(BATCH);
    measure(state, BATCH, [&] {
        for (std::size_t i = 0; i < BATCH; ++i) blocks[i] = take(sizes[i]);
        for (const std::uint32_t index : indices) std::free(blocks[index]);
    });
}

void add(const std::string& name, const Sizes& sizes, Order order, std::int64_t iterations) {
    add_case(
        "batch/" + name, Clock::cpu, iterations,
        [sizes, order](benchmark::State& state) { batch(state, sizes, order); });
}

}  // namespace

void add_batches() {
    add("lifo/64", Sizes::fixed(64), Order::lifo, 6000);
    add("fifo/64", Sizes::fixed(64), Order::fifo, 6000);
    add("random/16", Sizes::fixed(16), Order::random, 6000);
    add("random/64", Sizes::fixed(64), Order::random, 6000);
    add("random/256", Sizes::fixed(256), Order::random, 4000);
    add("random/mixed", Sizes::log_uniform(8, 1024), Order::random, 2500);
}

}  // namespace aep::bench
