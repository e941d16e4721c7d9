// Purpose: prices published once for whoever listens: who is late gets the last ones, who is slow misses some or is waited for. C++ handles.
// Who calls it: people who begin, and the tests:
//     aep run -- ticker listen 5 & aep run -- ticker publish 100
// Crash rule: killed at any moment, either end leaves nothing behind; what was published stays while somebody has the topic open.
#include <aep/topic.hpp>
#include <cstdlib>
#include <cstring>
#include <iostream>

namespace dsm = aep::dsm;

struct Price {
    static constexpr const char* dsm_type_name = "ticker.price";
    long number;
    double value;
};

/// Numbers from 1 on; 0 is the last one.
int publish(long count) {
    dsm::attach();
    const dsm::Topic<Price> prices("prices", {.messages = 64});
    for (long i = 1; i <= count; ++i)
        prices.publish(dsm::make<Price>(i == count ? 0 : i, 100.0 + static_cast<double>(i % 7)),
                       dsm::FOREVER);
    std::cout << "published " << count << std::endl;
    std::cin.get();  // until nobody needs what is kept
    return 0;
}

/// Until the last one has come. `behind`: what becomes of a listener who is slow.
int listen(std::uint32_t history, dsm::Behind behind) {
    dsm::attach();
    const dsm::Subscription<Price> prices("prices", {.behind = behind, .history = history},
                                          {.messages = 64});
    std::cout << "waiting" << std::endl;
    double sum = 0;
    std::uint64_t taken = 0, missed = 0;
    for (long number = 1; number != 0; ++taken) {
        std::uint64_t before = 0;
        const dsm::Ref<Price> price = prices.take(dsm::FOREVER, &before);
        missed += before;
        sum += price->value;
        number = price->number;
    }
    std::cout << taken << " prices, " << missed << " missed, mean "
              << sum / static_cast<double>(taken) << std::endl;
    return 0;
}

int main(int argc, char** argv) try {
    const bool publishes = argc == 3 && std::strcmp(argv[1], "publish") == 0;
    const bool listens = argc == 3 && std::strcmp(argv[1], "listen") == 0;
    const bool glances = argc == 3 && std::strcmp(argv[1], "glance") == 0;
    if (publishes) return publish(std::atol(argv[2]));
    if (listens || glances)
        return listen(static_cast<std::uint32_t>(std::atol(argv[2])),
                      listens ? dsm::Behind::block : dsm::Behind::drop_oldest);
    std::cerr << "usage: ticker publish COUNT | listen HISTORY | glance HISTORY\n";
    return 2;
} catch (const std::system_error& error) {
    std::cerr << "ticker: " << error.what() << ": " << dsm_strerror(error.code().value()) << "\n";
    return 1;
}
