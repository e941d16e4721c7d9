// Compiled by cases/gcc.py: templates and containers for the compiler to work on, threads and
// exceptions to run.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

extern "C" unsigned* sieve(unsigned limit, size_t* count);

struct alignas(256) Wide {
    std::string text;
};

static int deep(int level) {
    std::vector<std::string> garbage(4, std::string(100, static_cast<char>('a' + level % 26)));
    if (level == 0) throw std::runtime_error("deep");
    return deep(level - 1) + static_cast<int>(garbage.size());
}

int main(int argc, char** argv) {
    std::string go;
    std::getline(std::cin, go);  // held back until the preload has been seen in us
    const unsigned limit = static_cast<unsigned>(std::atoi(argv[argc - 1]));
    size_t count = 0;
    std::unique_ptr<unsigned, decltype(&std::free)> primes(sieve(limit, &count), &std::free);
    std::vector<unsigned> list(primes.get(), primes.get() + count);
    std::cout << count << " primes, sum " << std::accumulate(list.begin(), list.end(), 0UL) << '\n';

    std::map<unsigned, std::vector<unsigned>> endings;
    for (unsigned prime : list) endings[prime % 10].push_back(prime);
    for (const auto& [end, members] : endings)
        std::cout << end << ": " << members.size() << ", last " << members.back() << '\n';

    // Each thread builds a table and hands it to the next one, which frees it.
    std::vector<std::unordered_map<std::string, std::unique_ptr<Wide>>> tables(8);
    std::vector<size_t> matches(8);
    for (int round = 0; round < 4; round++) {
        std::vector<std::thread> threads;
        for (size_t n = 0; n < 8; n++)
            threads.emplace_back([&, n, round] {
                auto& table = tables[(n + static_cast<size_t>(round)) % 8];
                table.clear();
                std::regex ends_in_seven("^[0-9]*7$");
                matches[n] = 0;
                for (size_t i = 0; i < list.size(); i += 3) {
                    const std::string key = std::to_string(list[i]);
                    table[key] = std::make_unique<Wide>(Wide{key + key});
                    matches[n] += std::regex_match(key, ends_in_seven);
                }
            });
        for (auto& thread : threads) thread.join();
    }
    size_t wanted = 0;
    for (size_t i = 0; i < list.size(); i += 3) wanted += list[i] % 10 == 7;
    bool agree = std::all_of(matches.begin(), matches.end(), [&](size_t m) { return m == wanted; });
    for (const auto& table : tables)
        for (const auto& [key, wide] : table)
            agree =
                agree && wide->text == key + key && reinterpret_cast<size_t>(wide.get()) % 256 == 0;
    std::cout << (agree ? "threads agree" : "threads differ") << '\n';
    try {
        deep(1000);
    } catch (const std::runtime_error& error) {
        std::cout << "exception after 1000 frames: " << error.what() << '\n';
    }
    return 0;
}
