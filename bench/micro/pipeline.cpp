// Purpose: producer and consumer: one thread allocates and fills objects, the other reads and frees
// them,
//          both at the same time on two processors, connected by a ring of batches. The time is the
//          sum of both threads' own CPU time over their work; waiting for the other one is left
//          out, because on a busy machine it would be all there is.
// Who calls it: main.cpp.
// Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"
#include "bench/micro/spin.hpp"

#include <atomic>
#include <thread>

namespace aep::bench {

namespace {

constexpr std::size_t BATCH = 256;
constexpr std::size_t RING = 16;
constexpr std::size_t BATCHES_PER_ITERATION = 128;

/// Single producer, single consumer; each cell is a batch of pointers. A first pointer of null is
/// the end.
struct Ring {
    void* cells[RING][BATCH] = {};
    double seconds_of_consumer = 0;  ///< published by `emptied`
    alignas(64) std::atomic<std::uint64_t> filled{0};
    alignas(64) std::atomic<std::uint64_t> emptied{0};

    /// Waits until the consumer has done everything; its time so far.
    double drain() {
        const std::uint64_t all = filled.load(std::memory_order_relaxed);
        wait_until([&] { return emptied.load(std::memory_order_acquire) == all; });
        return seconds_of_consumer;
    }
};

void consume(Ring& ring) {
    for (std::uint64_t next = 0;; ++next) {
        wait_until([&] { return ring.filled.load(std::memory_order_acquire) > next; });
        void* const* const cell = ring.cells[next % RING];
        if (cell[0] == nullptr) return;
        const double start = thread_seconds();
        for (std::size_t i = 0; i < BATCH; ++i) {
            benchmark::DoNotOptimize(*static_cast<volatile std::uint64_t*>(cell[i]));
            std::free(cell[i]);
        }
        ring.seconds_of_consumer += thread_seconds() - start;
        ring.emptied.store(next + 1, std::memory_order_release);
    }
}

/// Waits for room, lets `fill` write the next cell and hands it over; returns the time of filling.
template <class Fill>
double produce(Ring& ring, Fill&& fill) {
    const std::uint64_t next = ring.filled.load(std::memory_order_relaxed);
    wait_until([&] { return next - ring.emptied.load(std::memory_order_acquire) < RING; });
    const double start = thread_seconds();
    fill(ring.cells[next % RING]);
    const double seconds = thread_seconds() - start;
    ring.filled.store(next + 1, std::memory_order_release);
    return seconds;
}

/// One iteration; returns the CPU time of both threads.
double run_batches(Ring& ring, const Sizes& sizes, std::size_t& draw) {
    const double before = ring.drain();
    double seconds = 0;
    for (std::size_t batch = 0; batch < BATCHES_PER_ITERATION; ++batch) {
        seconds += produce(
            ring,
            [&](void** cell) {
                for (std::size_t i = 0; i < BATCH; ++i) {
                    cell[i] = take(sizes[draw++]);
                    touch(cell[i]);
                }
            });
    }
    return seconds + ring.drain() - before;
}

void pipeline(benchmark::State& state, const Sizes& sizes) {
    Ring ring;
    // The second processor is asked for before the first thread gives up its right to it.
    std::atomic<bool> bound{false};
    std::thread consumer([&] {
        bind_to_processor(1);
        bound.store(true);
        consume(ring);
    });
    wait_until([&] { return bound.load(); });
    bind_to_processor(0);
    std::size_t draw = 0;
    for (std::int64_t i = 0; i <= static_cast<std::int64_t>(state.max_iterations) / 8; ++i)
        run_batches(ring, sizes, draw);
    for (auto _ : state) state.SetIterationTime(run_batches(ring, sizes, draw));
    produce(ring, [](void** cell) { cell[0] = nullptr; });
    consumer.join();
    state.SetItemsProcessed(
        static_cast<std::int64_t>(state.iterations() * BATCHES_PER_ITERATION * BATCH));
}

void add(const std::string& name, const Sizes& sizes, std::int64_t iterations) {
    add_case(
        "pipeline/" + name, Clock::manual, iterations,
        [sizes](benchmark::State& state) { pipeline(state, sizes); });
}

}  // namespace

void add_pipeline() {
    add("64", Sizes::fixed(64), 40);
    add("mixed", Sizes::log_uniform(8, 1024), 30);
}

}  // namespace aep::bench
