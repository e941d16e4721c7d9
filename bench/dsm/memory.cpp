// Purpose: what this machine's memory does, and how much of it an allocator takes for objects.
// Who calls it: bench/paper.py; `footprint` under any preloaded allocator.
// Crash rule: a measuring program.
//
//   aep_bench_memory speed MIB              prints, of that much memory in huge pages where there are such,
//     latency_ns    from one line to the next that its content leads to, in random order
//     seq_mb_s      read in order by one thread
//     rand_mb_s     whole lines read in random order by one thread
//     cas_mops      compare-and-swap of a word that nobody else uses
//   aep_bench_memory footprint OBJECTS BYTES    allocates and fills so many objects of that size; prints
//     extra_bytes   by how much more than the objects' own bytes the process has grown, an object
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <numeric>
#include <random>
#include <string_view>

#include "bench/dsm/timing.hpp"

namespace {

using namespace aep::bench;

struct alignas(64) Line {
    std::uint64_t next;
    std::uint64_t rest[7];
};

constexpr int TURNS = 5;

/// The least of a few turns: what the memory does, not its other users.
template <class Turn>
double best_ns(Turn&& turn) {
    double best = 1e300;
    for (int i = 0; i < TURNS; ++i) {
        const double begin = now_ns();
        turn();
        best = std::min(best, now_ns() - begin);
    }
    return best;
}

/// Each line leads to another one, through all of them.
void make_circle(Line* lines, std::size_t count) {
    std::vector<std::uint32_t> order(count);
    std::iota(order.begin(), order.end(), 0U);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(1));
    for (std::size_t i = 0; i < count; ++i) lines[order[i]].next = order[(i + 1) % count];
}

int speed(std::size_t mib) {
    const std::size_t bytes = mib << 20, count = bytes / sizeof(Line);
    void* const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(memory != MAP_FAILED, "no memory");
    madvise(memory, bytes, MADV_HUGEPAGE);
    Line* const lines = static_cast<Line*>(memory);
    make_circle(lines, count);
    volatile std::uint64_t sink = 0;

    constexpr std::size_t STEPS = 1'000'000;
    std::uint64_t at = 0;
    print("latency_ns", best_ns([&] {
                            for (std::size_t i = 0; i < STEPS; ++i) at = lines[at].next;
                        }) / STEPS);
    const auto mb_s = [](double read, double ns) { return read / ns * 1e3; };
    print("seq_mb_s", mb_s(static_cast<double>(bytes), best_ns([&] {
                               std::uint64_t sum = 0;
                               for (std::size_t i = 0; i < count; ++i)
                                   for (const std::uint64_t word : lines[i].rest) sum += word;
                               sink = sink + sum;
                           })));
    // Which one is next does not depend on what was read, so that many are under way.
    print("rand_mb_s", mb_s(static_cast<double>(STEPS * sizeof(Line)), best_ns([&] {
                                std::uint64_t sum = 0, state = 1;
                                for (std::size_t i = 0; i < STEPS; ++i) {
                                    state = state * 6364136223846793005U + 1442695040888963407U;
                                    sum += lines[(state >> 33) % count].next;
                                }
                                sink = sink + sum;
                            })));
    std::atomic<std::uint64_t> word{0};
    print("cas_mops", STEPS / best_ns([&] {
                          for (std::uint64_t i = 0; i < STEPS; ++i) {
                              std::uint64_t now = word.load(std::memory_order_relaxed);
                              word.compare_exchange_strong(now, now + 1);
                          }
                      }) * 1e3);
    sink = sink + at;
    return 0;
}

/// Bytes of the process that are present.
double present_bytes() {
    std::ifstream file("/proc/self/statm");
    double all = 0, resident = 0;
    file >> all >> resident;
    return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

int footprint(std::size_t objects, std::size_t bytes) {
    std::vector<void*> all(objects, nullptr);
    std::memset(all.data(), 1, objects * sizeof(void*));  // present before anything is counted
    const double before = present_bytes();
    for (void*& object : all) {
        object = std::malloc(bytes);
        expect(object != nullptr, "no memory");
        std::memset(object, 1, bytes);
    }
    const double grown = present_bytes() - before;
    print("extra_bytes", grown / static_cast<double>(objects) - static_cast<double>(bytes));
    return 0;
}

}  // namespace

int main(int count, char** words) {
    const std::string_view what = count > 2 ? words[1] : "";
    const auto number = [&](int at) { return std::strtoull(words[at], nullptr, 10); };
    if (what == "speed" && count == 3 && number(2) != 0) return speed(number(2));
    if (what == "footprint" && count == 4 && number(2) != 0) return footprint(number(2), number(3));
    std::fputs("usage: aep_bench_memory speed MIB | footprint OBJECTS BYTES\n", stderr);
    return 2;
}
