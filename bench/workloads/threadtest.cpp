// Purpose: threadtest (after Hoard's): each thread allocates its share of 100,000 objects of 64
// bytes, writes
//          them, and frees them all, again and again; nothing is shared.
// Who calls it: bench/driver/workloads.py: aep_bench_threadtest THREADS ROUNDS
// Crash rule: nothing outlives the process.
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t OBJECTS = 100'000;
constexpr std::size_t SIZE = 64;

void work(std::size_t objects, int rounds) {
    std::vector<void*> blocks(objects);
    for (int round = 0; round < rounds; ++round) {
        for (void*& block : blocks) {
            block = std::malloc(SIZE);
            if (block == nullptr) std::exit(3);
            *static_cast<volatile int*>(block) = round;
        }
        for (void* block : blocks) std::free(block);
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s THREADS ROUNDS\n", argv[0]);
        return 2;
    }
    const auto count = static_cast<std::size_t>(std::atoi(argv[1]));
    const int rounds = std::atoi(argv[2]);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < count; ++i) threads.emplace_back(work, OBJECTS / count, rounds);
    for (std::thread& thread : threads) thread.join();
    std::printf("threadtest: %zu threads, %d rounds\n", count, rounds);
    return 0;
}
