// Purpose: aep_bench_micro: lists the cases or runs one of them with Google Benchmark.
// Who calls it: bench/run.py, once for each case, allocator and round (a fresh process each time,
// so that
//               peak RSS belongs to the case); or a person:
//                   LD_PRELOAD=... aep_bench_micro --case=pair/64
// Crash rule: nothing outlives the process.
//
//   --list          names of all cases, one a line
//   --allocator     path of the object that malloc, and free, come from
//   --case=NAME     run only this one (default: all, in one process)
//   --scale=X       X times the fixed work (default 1)
// Everything else goes to Google Benchmark (--benchmark_format=json and so on).
#include "bench/micro/case.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace {

using namespace aep::bench;

/// The value of `--name=value`, or null when `argument` is another one.
const char* value_of(const char* argument, std::string_view name) {
    return std::strncmp(argument, name.data(), name.size()) == 0 ? argument + name.size() : nullptr;
}

const char* provider_of(const char* symbol) {
    Dl_info info{};
    void* const address = dlsym(RTLD_DEFAULT, symbol);
    return address != nullptr && dladdr(address, &info) != 0 ? info.dli_fname : "unknown";
}

void register_case(const Case& one, double scale) {
    const auto iterations = std::max<std::int64_t>(
        1, static_cast<std::int64_t>(static_cast<double>(one.iterations) * scale));
    auto* const registered = benchmark::RegisterBenchmark(one.name.c_str(), one.body);
    registered->Iterations(iterations);
    registered->Unit(benchmark::kNanosecond);
    switch (one.clock) {
        case Clock::cpu:
            registered->MeasureProcessCPUTime();
            break;
        case Clock::manual:
            registered->UseManualTime();
            break;
    }
}

}  // namespace

int main(int argc, char** argv) {
    add_pairs();
    add_batches();
    add_live_sets();
    add_first_touch();
    add_large();
    add_growth();
    add_zeroed();
    add_aligned();
    add_remote_free();
    add_pipeline();
    add_threads();

    double scale = 1;
    const char* wanted = nullptr;
    int kept = 1;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--list") == 0) {
            for (const Case& one : all_cases()) std::printf("%s\n", one.name.c_str());
            return 0;
        }
        if (std::strcmp(argv[i], "--allocator") == 0) {
            std::printf("%s\n%s\n", provider_of("malloc"), provider_of("free"));
            return 0;
        }
        if (const char* value = value_of(argv[i], "--case="))
            wanted = value;
        else if (const char* factor = value_of(argv[i], "--scale="))
            scale = std::strtod(factor, nullptr);
        else
            argv[kept++] = argv[i];
    }
    argc = kept;

    bool found = false;
    for (const Case& one : all_cases()) {
        if (wanted == nullptr || one.name == wanted) {
            register_case(one, scale);
            found = true;
        }
    }
    if (!found) {
        std::fprintf(stderr, "bench: no case named %s\n", wanted);
        return 2;
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
