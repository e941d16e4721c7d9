// Purpose: fragmentation over time: a program that runs long while its sizes shift. In each phase
// nine
//          tenths of the objects give way to objects of other sizes; a tenth survives, scattered.
//          At the end all but a twentieth is freed. Reports what stays resident.
// Who calls it: bench/driver/workloads.py: aep_bench_fragment MIB PHASES
// Crash rule: nothing outlives the process.
//
// Lines that start with '#' are measurements, not results: memory while full (rss_full_kib, the
// mean of the phases' ends, and live_kib, what the program asked for), after the frees
// (rss_end_kib), and after a further 200 ms of light work, in which an allocator may give memory
// back (rss_later_kib).
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

namespace {

struct Range {
    std::uint32_t low;
    std::uint32_t high;
};

constexpr Range PHASES[] = {{16, 64},   {48, 200},     {200, 900}, {24, 24},
                            {32, 4096}, {1000, 20000}, {16, 128},  {512, 1600}};

std::uint64_t random_state = 7;

std::uint32_t below(std::uint32_t bound) {
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<std::uint32_t>(((random_state >> 32U) * bound) >> 32U);
}

struct Object {
    unsigned char* block;
    std::uint32_t size;
};

Object make(Range range) {
    const std::uint32_t size = range.low + below(range.high - range.low + 1);
    auto* const block = static_cast<unsigned char*>(std::malloc(size));
    if (block == nullptr) std::exit(3);
    std::memset(block, static_cast<int>(size & 0xFFU), size);
    return {block, size};
}

/// Frees the object after a look at its content: nobody else may have written to it.
void drop(Object object) {
    if (object.block[0] != (object.size & 0xFFU) ||
        object.block[object.size - 1] != (object.size & 0xFFU)) {
        std::fprintf(stderr, "fragment: an object of %u bytes was overwritten\n", object.size);
        std::exit(4);
    }
    std::free(object.block);
}

/// Keeps a random part of the objects: one in `of`.
std::size_t thin_out(std::vector<Object>& objects, std::uint32_t of) {
    std::size_t kept = 0;
    std::size_t bytes = 0;
    for (const Object object : objects) {
        if (below(of) == 0) {
            objects[kept++] = object;
            bytes += object.size;
        } else {
            drop(object);
        }
    }
    objects.resize(kept);
    return bytes;
}

long resident_kib() {
    long pages = 0;
    if (std::FILE* const file = std::fopen("/proc/self/statm", "r")) {
        if (std::fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
        std::fclose(file);
    }
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/// A little work, mostly idle: what a server does at night.
void light_work(int milliseconds) {
    for (int i = 0; i < milliseconds; ++i) {
        const timespec pause{0, 1'000'000};
        nanosleep(&pause, nullptr);
        for (const std::size_t size : {40, 400, 4000, 40'000}) {
            void* volatile block = std::malloc(size);
            std::free(block);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s MIB PHASES\n", argv[0]);
        return 2;
    }
    const std::size_t target = static_cast<std::size_t>(std::atoi(argv[1])) << 20U;
    const int phases = std::atoi(argv[2]);
    std::vector<Object> objects;
    objects.reserve(target / 16);
    std::size_t live = 0;
    long full = 0;
    for (int phase = 0; phase < phases; ++phase) {
        if (phase > 0) live = thin_out(objects, 10);
        while (live < target) {
            objects.push_back(make(PHASES[static_cast<std::size_t>(phase) % std::size(PHASES)]));
            live += objects.back().size;
        }
        full += resident_kib();
    }
    std::printf("# live_kib %zu\n# rss_full_kib %ld\n", live / 1024, full / phases);
    thin_out(objects, 20);
    std::printf("# rss_end_kib %ld\n", resident_kib());
    light_work(200);
    std::printf("# rss_later_kib %ld\n", resident_kib());
    std::printf("fragment: %zu objects left\n", objects.size());
    for (const Object object : objects) drop(object);
    return 0;
}
