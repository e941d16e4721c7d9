// Purpose: random replacement: a set of live objects from which a random one is freed and replaced.
// Inside
//          the L2 cache (2,000 objects) and far beyond it (200,000), one size and mixed sizes.
// Who calls it: main.cpp.
// Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"

namespace aep::bench {

namespace {

constexpr int REPLACEMENTS = 1000;

enum class Use { none, first_word };

void replace(benchmark::State& state, std::uint32_t live, const Sizes& sizes, Use use) {
    std::vector<void*> blocks(live);
    for (std::size_t i = 0; i < live; ++i) {
        blocks[i] = take(sizes[i]);
        touch(blocks[i]);
    }
    Rng rng(2);
    std::size_t draw = live;
    measure(state, REPLACEMENTS, [&] {
        for (int i = 0; i < REPLACEMENTS; ++i) {
            void*& block = blocks[rng.below(live)];
            std::free(block);
            block = take(sizes[draw++]);
            if (use == Use::first_word) touch(block);
        }
    });
    for (void* block : blocks) std::free(block);
}

/// Pairs of malloc and free beside a large live set full of holes, and nothing else.
void pairs_beside(benchmark::State& state, std::uint32_t live, const Sizes& sizes) {
    std::vector<void*> blocks(live);
    for (std::size_t i = 0; i < live; ++i) {
        blocks[i] = take(sizes[i]);
        touch(blocks[i]);
    }
    Rng rng(3);
    for (void*& block : blocks) {
        if (rng.below(2) == 0) {
            std::free(block);
            block = nullptr;
        }
    }
    std::size_t draw = live;
    measure(state, REPLACEMENTS, [&] {
        for (int i = 0; i < REPLACEMENTS; ++i) {
            void* const block = take(sizes[draw++]);
            touch(block);
            std::free(block);
        }
    });
    for (void* block : blocks) std::free(block);
}

void add(const std::string& name, std::uint32_t live, const Sizes& sizes, Use use,
         std::int64_t iterations) {
    add_case(
        name, Clock::cpu, iterations,
        [=](benchmark::State& state) { replace(state, live, sizes, use); });
}

}  // namespace

void add_live_sets() {
    add("live/cached/64", 2000, Sizes::fixed(64), Use::none, 3000);
    add("live/cached/mixed", 2000, Sizes::log_uniform(8, 512), Use::none, 2000);
    add("live/cached/mixed_used", 2000, Sizes::log_uniform(8, 512), Use::first_word, 2000);
    add("live/beyond/64", 200'000, Sizes::fixed(64), Use::none, 700);
    add("live/beyond/mixed", 200'000, Sizes::log_uniform(8, 512), Use::none, 500);
    add("live/beyond/mixed_used", 200'000, Sizes::log_uniform(8, 512), Use::first_word, 500);
    add_case("live/beyond/pairs", Clock::cpu, 3000, [](benchmark::State& state) {
        pairs_beside(state, 200'000, Sizes::log_uniform(8, 512));
    });
    add("mixed/8_32k", 1000, Sizes::log_uniform(8, 32768), Use::none, 1200);
    add("mixed/8_32k_used", 1000, Sizes::log_uniform(8, 32768), Use::first_word, 1200);
}

}  // namespace aep::bench
