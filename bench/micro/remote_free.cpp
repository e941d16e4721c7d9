// Purpose: cross-thread free: one thread allocates a batch, another frees all of it, in turns. The
// time is
//          the sum of both threads' own CPU time over their part (waiting excluded), so it holds
//          the remote free and what the owner pays to get the memory back; the two parts are
//          reported as counters.
// Who calls it: main.cpp.
// Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"
#include "bench/micro/spin.hpp"

#include <atomic>
#include <thread>

namespace aep::bench {

namespace {

constexpr std::size_t BATCH = 2000;

enum class Turn { nobody, owner, freer, over };

/// A batch that goes back and forth between its owner, who fills it, and the freer, who empties it.
struct Batch {
    std::vector<void*> blocks = std::vector<void*>(BATCH);
    std::vector<std::uint32_t> order = std::vector<std::uint32_t>(BATCH);
    double free_seconds = 0;
    alignas(64) std::atomic<Turn> turn{Turn::nobody};
};

void free_batches(Batch& batch) {
    for (;;) {
        wait_until([&] { return batch.turn.load(std::memory_order_acquire) != Turn::owner; });
        if (batch.turn.load(std::memory_order_relaxed) == Turn::over) return;
        const double start = thread_seconds();
        for (const std::uint32_t index : batch.order) std::free(batch.blocks[index]);
        batch.free_seconds = thread_seconds() - start;
        batch.turn.store(Turn::owner, std::memory_order_release);
    }
}

/// One turn of each thread; returns the owner's CPU time.
double hand_over(Batch& batch, const Sizes& sizes) {
    const double start = thread_seconds();
    for (std::size_t i = 0; i < BATCH; ++i) batch.blocks[i] = take(sizes[i]);
    const double seconds = thread_seconds() - start;
    batch.turn.store(Turn::freer, std::memory_order_release);
    wait_until([&] { return batch.turn.load(std::memory_order_acquire) == Turn::owner; });
    return seconds;
}

void remote(benchmark::State& state, const Sizes& sizes, bool shuffled) {
    Batch batch;
    Rng rng(4);
    for (std::uint32_t i = 0; i < BATCH; ++i) batch.order[i] = i;
    for (std::uint32_t i = BATCH - 1; shuffled && i > 0; --i)
        std::swap(batch.order[i], batch.order[rng.below(i + 1)]);
    // The second processor is asked for before the first thread gives up its right to it.
    std::thread freer([&batch] {
        bind_to_processor(1);
        batch.turn.store(Turn::owner, std::memory_order_release);
        free_batches(batch);
    });
    wait_until([&] { return batch.turn.load(std::memory_order_acquire) == Turn::owner; });
    bind_to_processor(0);
    for (std::int64_t i = 0; i <= static_cast<std::int64_t>(state.max_iterations) / 8; ++i)
        hand_over(batch, sizes);
    double alloc_seconds = 0;
    double free_seconds = 0;
    for (auto _ : state) {
        const double seconds = hand_over(batch, sizes);
        alloc_seconds += seconds;
        free_seconds += batch.free_seconds;
        state.SetIterationTime(seconds + batch.free_seconds);
    }
    batch.turn.store(Turn::over, std::memory_order_release);
    freer.join();
    const double operations = static_cast<double>(state.iterations()) * BATCH;
    state.SetItemsProcessed(static_cast<std::int64_t>(operations));
    state.counters["alloc_ns"] = alloc_seconds * 1e9 / operations;
    state.counters["free_ns"] = free_seconds * 1e9 / operations;
}

void add(const std::string& name, const Sizes& sizes, bool shuffled, std::int64_t iterations) {
    add_case(
        "remote/" + name, Clock::manual, iterations,
        [=](benchmark::State& state) { remote(state, sizes, shuffled); });
}

}  // namespace

void add_remote_free() {
    add("in_order/64", Sizes::fixed(64), false, 700);
    add("random/64", Sizes::fixed(64), true, 700);
    add("random/512", Sizes::fixed(512), true, 500);
    add("random/mixed", Sizes::log_uniform(8, 1024), true, 500);
}

}  // namespace aep::bench
