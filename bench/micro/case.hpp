// Purpose: what every micro-benchmark shares: registration with a fixed amount of work, the
// measured loop,
//          checked allocation, deterministic random numbers and size sequences.
// Who calls it: the case files of this folder and main.cpp.
// Crash rule: nothing outlives the process.
//
// Fixed work: a case runs the same operations, in the same order, the same number of times,
// whatever the allocator and however fast it is. So peak RSS is comparable, and no allocator is
// measured at another stage of its heap's life than its peers.
#pragma once

#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace aep::bench {

/// What the time of a case is.
enum class Clock {
    cpu,    ///< user and system time of all threads of the process: neighbours do not count
    manual  ///< the case adds up its threads' own CPU times over their work and reports them itself
};

using CaseBody = std::function<void(benchmark::State&)>;

struct Case {
    std::string name;
    Clock clock;
    std::int64_t iterations;  ///< measured ones, at scale 1; about 50 ms
    CaseBody body;
};

/// All cases, in the order in which they are listed.
std::vector<Case>& all_cases();

/// Adds one case; `iterations` is its fixed work at scale 1.
void add_case(std::string name, Clock clock, std::int64_t iterations, CaseBody body);

// One for each file of cases; main calls them in this order.
void add_pairs();
void add_batches();
void add_live_sets();
void add_first_touch();
void add_large();
void add_growth();
void add_zeroed();
void add_aligned();
void add_remote_free();
void add_pipeline();
void add_threads();

/// Ends the program: a benchmark that goes on without its memory would measure nothing.
[[noreturn]] void out_of_memory(std::size_t size);

/// malloc through the PLT, result checked and kept from the optimiser.
inline void* take(std::size_t size) {
    void* block = std::malloc(size);
    benchmark::DoNotOptimize(block);
    if (block == nullptr) [[unlikely]]
        out_of_memory(size);
    return block;
}

/// Writes the first word, as any program that wants a block does sooner or later.
inline void touch(void* block) { *static_cast<volatile std::uint64_t*>(block) = 1; }

/// Writes one word in each OS page of the block.
inline void touch_pages(void* block, std::size_t size) {
    auto* bytes = static_cast<volatile unsigned char*>(block);
    for (std::size_t at = 0; at < size; at += 4096) bytes[at] = 1;
}

/// xorshift64*: about 1 ns, no memory, the same sequence for the same seed everywhere.
class Rng {
  public:
    explicit Rng(std::uint64_t seed)
        : state_(seed * 0x9E37'79B9'7F4A'7C15U + 0x1234'5678'9ABC'DEFU) {}

    std::uint32_t next() {
        state_ ^= state_ >> 12U;
        state_ ^= state_ << 25U;
        state_ ^= state_ >> 27U;
        return static_cast<std::uint32_t>((state_ * 0x2545'F491'4F6C'DD1DU) >> 32U);
    }

    /// Uniform in [0, bound).
    std::uint32_t below(std::uint32_t bound) {
        return static_cast<std::uint32_t>((std::uint64_t{next()} * bound) >> 32U);
    }

  private:
    std::uint64_t state_;
};

/// A repeating sequence of 1024 sizes, drawn once so that drawing is not measured.
class Sizes {
  public:
    static Sizes fixed(std::size_t size);
    /// Every octave between the two bounds (inclusive) is equally likely.
    static Sizes log_uniform(std::size_t low, std::size_t high);
    static Sizes uniform(std::size_t low, std::size_t high);

    std::size_t operator[](std::size_t index) const { return sizes_[index % sizes_.size()]; }

  private:
    std::array<std::uint32_t, 1024> sizes_{};
};

/// The measured loop: a warm-up of an eighth of the work, then every iteration of it. `step`
/// performs `operations` operations; the result is time an operation.
template <class Step>
void measure(benchmark::State& state, std::int64_t operations, Step&& step) {
    for (std::int64_t i = 0; i <= static_cast<std::int64_t>(state.max_iterations) / 8; ++i) step();
    for (auto _ : state) step();
    state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * operations);
}

}  // namespace aep::bench
