// Purpose: the list of cases, size sequences, and the end when memory runs out.
// Who calls it: the case files and main.cpp.
// Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"

#include <cmath>
#include <cstdio>
#include <utility>

namespace aep::bench {

namespace {

constexpr std::uint64_t SIZES_SEED = 20260401;

}  // namespace

std::vector<Case>& all_cases() {
    static std::vector<Case> cases;
    return cases;
}

void add_case(std::string name, Clock clock, std::int64_t iterations, CaseBody body) {
    all_cases().push_back({std::move(name), clock, iterations, std::move(body)});
}

void out_of_memory(std::size_t size) {
    std::fprintf(stderr, "bench: no memory for %zu bytes\n", size);
    std::exit(3);
}

Sizes Sizes::fixed(std::size_t size) { return uniform(size, size); }

Sizes Sizes::uniform(std::size_t low, std::size_t high) {
    Sizes sizes;
    Rng rng(SIZES_SEED);
    for (auto& size : sizes.sizes_) {
        size =
            static_cast<std::uint32_t>(low + rng.below(static_cast<std::uint32_t>(high - low + 1)));
    }
    return sizes;
}

Sizes Sizes::log_uniform(std::size_t low, std::size_t high) {
    Sizes sizes;
    Rng rng(SIZES_SEED);
    const double ratio = static_cast<double>(high) / static_cast<double>(low);
    for (auto& size : sizes.sizes_) {
        const double exponent = static_cast<double>(rng.next()) / 4294967296.0;
        size = static_cast<std::uint32_t>(static_cast<double>(low) * std::pow(ratio, exponent));
    }
    return sizes;
}

}  // namespace aep::bench
