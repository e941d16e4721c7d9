// Purpose: bursts: a program that allocates, writes and frees 100 MB, sleeps for 700 ms, and does
// so
//          again: what an allocator gives back in the pauses it has to get again.
// Who calls it: bench/driver/workloads.py: aep_bench_bursts BURSTS BLOCK_SIZE
// Crash rule: nothing outlives the process.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t BURST_BYTES = 100'000'000;
constexpr std::chrono::milliseconds PAUSE{700};

}  // namespace

int main(int argc, char** argv) {
    const int bursts = argc > 2 ? std::atoi(argv[1]) : 0;
    const std::size_t size = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 0;
    if (bursts < 1 || size < 1 || size > BURST_BYTES) {
        std::fprintf(stderr, "usage: aep_bench_bursts BURSTS BLOCK_SIZE\n");
        return 2;
    }
    std::vector<void*> blocks(BURST_BYTES / size);
    for (int burst = 0; burst < bursts; ++burst) {
        if (burst != 0) std::this_thread::sleep_for(PAUSE);
        for (void*& block : blocks) {
            block = std::malloc(size);
            if (block == nullptr) {
                std::fprintf(stderr, "bursts: out of memory\n");
                return 1;
            }
            std::memset(block, 1, size);
        }
        for (void* block : blocks) std::free(block);
    }
    std::printf("bursts: %d of %zu blocks of %zu bytes\n", bursts, blocks.size(), size);
    return 0;
}
