// Purpose: realloc: a vector that grows by half, a string that grows by 16 bytes, a buffer that
// grows to
//          64 MiB, and several that grow side by side (nobody can grow in place all the time).
// Who calls it: main.cpp.
// Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"

namespace aep::bench {

namespace {

constexpr std::size_t KIB = 1024;
constexpr std::size_t MIB = 1024 * KIB;

void* regrow(void* block, std::size_t size) {
    void* const grown = std::realloc(block, size);
    benchmark::DoNotOptimize(grown);
    if (grown == nullptr) [[unlikely]]
        out_of_memory(size);
    return grown;
}

/// 16 B to `limit`, by half each time; the last word is written, as push_back does.
std::int64_t grow_by_half(std::size_t limit) {
    std::int64_t steps = 0;
    void* block = nullptr;
    for (std::size_t size = 16; size <= limit; size += size / 2) {
        block = regrow(block, size);
        touch(static_cast<char*>(block) + ((size - 8) & ~std::size_t{7}));
        ++steps;
    }
    std::free(block);
    return steps;
}

std::int64_t grow_by_16(std::size_t limit) {
    std::int64_t steps = 0;
    void* block = nullptr;
    for (std::size_t size = 16; size <= limit; size += 16) {
        block = regrow(block, size);
        touch(static_cast<char*>(block) + size - 16);
        ++steps;
    }
    std::free(block);
    return steps;
}

/// 1 MiB to 64 MiB by a quarter; one word in each OS page of the new part is written.
std::int64_t grow_large() {
    std::int64_t steps = 0;
    std::size_t written = 0;
    void* block = nullptr;
    for (std::size_t size = MIB; size <= 64 * MIB; size += size / 4) {
        block = regrow(block, size);
        touch_pages(static_cast<char*>(block) + written, size - written);
        written = size;
        ++steps;
    }
    std::free(block);
    return steps;
}

std::int64_t grow_side_by_side() {
    constexpr int STRINGS = 16;
    void* blocks[STRINGS] = {};
    std::int64_t steps = 0;
    for (std::size_t size = 32; size <= 8 * KIB; size += 32) {
        for (void*& block : blocks) {
            block = regrow(block, size);
            touch(static_cast<char*>(block) + size - 16);
            ++steps;
        }
    }
    for (void* block : blocks) std::free(block);
    return steps;
}

/// The number of steps is the same in each run; the first warm-up run counts them.
template <class Grow>
void add(const std::string& name, std::int64_t iterations, Grow grow) {
    add_case(
        "realloc/" + name, Clock::cpu, iterations,
        [grow](benchmark::State& state) {
            const std::int64_t steps = grow();
            for (std::int64_t i = 0; i < static_cast<std::int64_t>(state.max_iterations) / 8; ++i)
                grow();
            for (auto _ : state) grow();
            state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * steps);
        });
}

}  // namespace

void add_growth() {
    add(
        "vector_64k", 10'000, [] { return grow_by_half(64 * KIB); });
    add(
        "vector_4m", 200, [] { return grow_by_half(4 * MIB); });
    add(
        "by_16_to_16k", 1000, [] { return grow_by_16(16 * KIB); });
    add(
        "side_by_side_8k", 200, [] { return grow_side_by_side(); });
    add("large_64m", 2, [] { return grow_large(); });
}

}  // namespace aep::bench
