// Purpose: what being a client costs and what a neighbour's death does, seen from inside a client.
// Who calls it: bench/context.py, with our library preloaded.
// Crash rule: a measuring program.
//
//   aep_bench_probe signals N       ns of a signal sent to oneself and handled, median of batches
//   aep_bench_probe threads N       ns of a thread made and joined
//   aep_bench_probe pairs N         ns of a malloc(64) and its free
//   aep_bench_probe survivor MS     malloc/free pairs in each 10 ms of MS milliseconds, one a line,
//   after
//                                   a line with the monotonic clock in ns at the start
//   aep_bench_probe victim OBJECTS  holds OBJECTS blocks of 64 bytes, says "ready", waits to be
//   killed
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

namespace {

std::uint64_t now_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(t.tv_nsec);
}

/// Median over batches of the time of one call.
template <class F>
double median_ns(unsigned calls, F&& call) {
    constexpr unsigned BATCHES = 21;
    std::vector<double> times;
    for (unsigned b = 0; b < BATCHES; ++b) {
        const std::uint64_t begin = now_ns();
        for (unsigned i = 0; i < calls; ++i) call();
        times.push_back(static_cast<double>(now_ns() - begin) / calls);
    }
    std::nth_element(times.begin(), times.begin() + BATCHES / 2, times.end());
    return times[BATCHES / 2];
}

void nothing(int) {}
void* no_work(void*) { return nullptr; }

int signals(unsigned n) {
    signal(SIGUSR1, nothing);
    std::printf("%.1f\n", median_ns(n, [] { raise(SIGUSR1); }));
    return 0;
}

int threads(unsigned n) {
    std::printf("%.1f\n", median_ns(n, [] {
                    pthread_t thread;
                    if (pthread_create(&thread, nullptr, no_work, nullptr) != 0) std::abort();
                    pthread_join(thread, nullptr);
                }));
    return 0;
}

/// With AEP_PURE=1 each of the two calls is one operation.
int pairs(unsigned n) {
    std::printf("%.1f\n", median_ns(n, [] {
                    void* volatile block = std::malloc(64);
                    std::free(block);
                }));
    return 0;
}

int survivor(unsigned milliseconds) {
    constexpr std::uint64_t BIN = 10'000'000;
    std::vector<std::uint64_t> bins(milliseconds / 10 + 1);
    void* blocks[512] = {};
    std::uint64_t random = 88172645463325252u;
    const std::uint64_t begin = now_ns();
    std::printf("%llu\n", static_cast<unsigned long long>(begin));
    std::fflush(stdout);
    for (std::uint64_t bin = 0; bin < bins.size();) {
        for (int i = 0; i < 256; ++i) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            void*& block = blocks[random % 512];
            std::free(block);
            block = std::malloc(16 + random / 512 % 4096);
            if (block == nullptr) return 1;
            *static_cast<char*>(block) = 1;
        }
        bins[bin] += 256;
        bin = (now_ns() - begin) / BIN;
    }
    bins.pop_back();
    for (const std::uint64_t count : bins)
        std::printf("%llu\n", static_cast<unsigned long long>(count));
    return 0;
}

int victim(unsigned objects) {
    for (unsigned i = 0; i < objects; ++i) {
        void* block = std::malloc(64);
        if (block == nullptr) return 1;
        std::memset(block, 1, 64);
    }
    if (write(1, "ready\n", 6) != 6) return 1;
    for (;;) pause();
}

}  // namespace

int main(int count, char** arguments) {
    const std::string_view what = count == 3 ? arguments[1] : "";
    const unsigned n =
        count == 3 ? static_cast<unsigned>(std::strtoul(arguments[2], nullptr, 10)) : 0;
    if (n != 0 && what == "signals") return signals(n);
    if (n != 0 && what == "threads") return threads(n);
    if (n != 0 && what == "pairs") return pairs(n);
    if (n != 0 && what == "survivor") return survivor(n);
    if (n != 0 && what == "victim") return victim(n);
    std::fputs("usage: aep_bench_probe signals|threads|pairs|survivor|victim N\n", stderr);
    return 2;
}
