// Purpose: large objects (40 KiB to 1 MiB) and huge ones (4 to 32 MiB), as pairs and as a live set,
// with
//          their first word or one word in each OS page written.
// Who calls it: main.cpp.
// Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"

namespace aep::bench {

namespace {

constexpr std::size_t KIB = 1024;
constexpr std::size_t MIB = 1024 * KIB;

void pairs(benchmark::State& state, const Sizes& sizes, bool every_page) {
    std::size_t draw = 0;
    measure(state, 1, [&] {
        const std::size_t size = sizes[draw++];
        void* const block = take(size);
        if (every_page)
            touch_pages(block, size);
        else
            touch(block);
        std::free(block);
    });
}

void live_set(benchmark::State& state, std::uint32_t live, const Sizes& sizes) {
    std::vector<void*> blocks(live);
    std::size_t draw = 0;
    for (void*& block : blocks) {
        block = take(sizes[draw++]);
        touch(block);
    }
    Rng rng(3);
    measure(state, 1, [&] {
        void*& block = blocks[rng.below(live)];
        std::free(block);
        block = take(sizes[draw++]);
        touch(block);
    });
    for (void* block : blocks) std::free(block);
}

}  // namespace

void add_large() {
    const Sizes large = Sizes::log_uniform(40 * KIB, MIB);
    const Sizes huge = Sizes::log_uniform(4 * MIB, 32 * MIB);
    add_case(
        "large/pair", Clock::cpu, 100'000,
        [large](benchmark::State& state) { pairs(state, large, false); });
    add_case(
        "large/pair_used", Clock::cpu, 8000,
        [large](benchmark::State& state) { pairs(state, large, true); });
    add_case(
        "large/live", Clock::cpu, 50'000,
        [large](benchmark::State& state) { live_set(state, 64, large); });
    add_case(
        "huge/pair", Clock::cpu, 4000,
        [huge](benchmark::State& state) { pairs(state, huge, false); });
    add_case(
        "huge/pair_used", Clock::cpu, 16,
        [huge](benchmark::State& state) { pairs(state, huge, true); });
    add_case("huge/live", Clock::cpu, 3000,
             [huge](benchmark::State& state) { live_set(state, 8, huge); });
}

}  // namespace aep::bench
