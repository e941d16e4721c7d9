// Purpose: larson's server pattern: each chain is a thread that replaces random objects of its
// table and then
//          passes the table on to a new thread and ends, so that objects outlive the threads that
//          made them and are freed by later ones; neighbours' tables are swapped now and then.
// Who calls it: bench/driver/workloads.py: aep_bench_larson CHAINS GENERATIONS REPLACEMENTS
// Crash rule: nothing outlives the process.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t TABLE = 1000;
constexpr std::uint32_t SMALLEST = 10;
constexpr std::uint32_t LARGEST = 500;

/// What a thread inherits: the objects and the sequence of random numbers.
struct Inheritance {
    std::vector<unsigned char*> blocks = std::vector<unsigned char*>(TABLE);
    std::uint64_t random = 1;

    std::uint32_t below(std::uint32_t bound) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        return static_cast<std::uint32_t>(((random >> 32U) * bound) >> 32U);
    }
};

void replace(Inheritance& mine, int replacements) {
    for (int i = 0; i < replacements; ++i) {
        unsigned char*& block = mine.blocks[mine.below(TABLE)];
        std::free(block);
        const std::uint32_t size = SMALLEST + mine.below(LARGEST - SMALLEST);
        block = static_cast<unsigned char*>(std::malloc(size));
        if (block == nullptr) std::exit(3);
        block[0] = static_cast<unsigned char>(size);
        block[size - 1] = static_cast<unsigned char>(size);
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "usage: %s CHAINS GENERATIONS REPLACEMENTS\n", argv[0]);
        return 2;
    }
    const auto chains = static_cast<std::size_t>(std::atoi(argv[1]));
    const int generations = std::atoi(argv[2]);
    const int replacements = std::atoi(argv[3]);
    std::vector<Inheritance> tables(chains);
    for (std::size_t i = 0; i < chains; ++i) tables[i].random = 1000 + i;
    for (int generation = 0; generation < generations; ++generation) {
        std::vector<std::thread> threads;
        for (Inheritance& table : tables)
            threads.emplace_back([&table, replacements] { replace(table, replacements); });
        for (std::thread& thread : threads) thread.join();
        std::swap(tables.front().blocks, tables.back().blocks);
    }
    unsigned sum = 0;
    for (Inheritance& table : tables) {
        for (unsigned char* block : table.blocks) {
            sum += block == nullptr ? 0U : *block;
            std::free(block);
        }
    }
    std::printf("larson: sum of first bytes %u\n", sum);
    return 0;
}
