// Purpose: what an allocator adds to the life of a trivial program: runs it many times, one after
// another,
//          and reports the median time from start to end.
// Who calls it: bench/driver/workloads.py: aep_bench_startup TIMES PROGRAM
// Crash rule: nothing outlives the process; the program run is a child that ends by itself.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s TIMES PROGRAM\n", argv[0]);
        return 2;
    }
    std::vector<double> times(static_cast<std::size_t>(std::atoi(argv[1])));
    for (double& time : times) {
        const auto start = std::chrono::steady_clock::now();
        pid_t child = 0;
        int status = 0;
        if (posix_spawn(&child, argv[2], nullptr, nullptr, argv + 2, environ) != 0 ||
            waitpid(child, &status, 0) != child || status != 0) {
            std::fprintf(stderr, "startup: %s failed (status %d)\n", argv[2], status);
            return 4;
        }
        time = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
                   .count();
    }
    std::sort(times.begin(), times.end());
    std::printf("# value %.4f\n", times[times.size() / 2]);
    std::printf("startup: %zu times\n", times.size());
    return 0;
}
