// Purpose: producer and consumer: one thread allocates and fills objects, the other reads and frees
// them,
//          both running at the same time, connected by a ring of batches.
// Who calls it: main.cpp.
// Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"
#include "bench/micro/spin.hpp"

#include <atomic>
#include <thread>

namespace aep::bench {

namespace {

constexpr std::size_t BATCH = 64;
constexpr std::size_t RING = 32;
constexpr std::size_t BATCHES_PER_ITERATION = 512;

/// Single producer, single consumer; each cell is a batch of pointers. A first pointer of null is
/// the end.
struct Ring {
    void* cells[RING][BATCH] = {};
    alignas(64) std::atomic<std::uint64_t> filled{0};
    alignas(64) std::atomic<std::uint64_t> emptied{0};
};

void consume(Ring& ring) {
    for (std::uint64_t next = 0;; ++next) {
        wait_until([&] { return ring.filled.load(std::memory_order_acquire) > next; });
        void* const* const cell = ring.cells[next % RING];
        if (cell[0] == nullptr) {
            return;
        }
        for (std::size_t i = 0; i < BATCH; ++i) {
            benchmark::DoNotOptimize(*static_cast<volatile std::uint64_t*>(cell[i]));
            std::free(cell[i]);
        }
        ring.emptied.store(next + 1, std::memory_order_release);
    }
}

/// Waits for room, lets `fill` write the next cell and hands it over.
template <class Fill>
void produce(Ring& ring, Fill&& fill) {
    const std::uint64_t next = ring.filled.load(std::memory_order_relaxed);
    wait_until([&] { return next - ring.emptied.load(std::memory_order_acquire) < RING; });
    fill(ring.cells[next % RING]);
    ring.filled.store(next + 1, std::memory_order_release);
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
    measure(state, BATCHES_PER_ITERATION * BATCH, [&] {
        for (std::size_t batch = 0; batch < BATCHES_PER_ITERATION; ++batch) {
            produce(ring, [&](void** cell) {
                for (std::size_t i = 0; i < BATCH; ++i) {
                    cell[i] = take(sizes[draw++]);
                    touch(cell[i]);
                }
            });
        }
    });
    produce(ring, [](void** cell) { cell[0] = nullptr; });
    consumer.join();
}

void add(const std::string& name, const Sizes& sizes, std::int64_t iterations) {
    add_case("pipeline/" + name, Clock::wall, iterations,
             [sizes](benchmark::State& state) { pipeline(state, sizes); });
}

}  // namespace

void add_pipeline() {
    add("64", Sizes::fixed(64), 50);
    add("mixed", Sizes::log_uniform(8, 1024), 40);
}

}  // namespace aep::bench
