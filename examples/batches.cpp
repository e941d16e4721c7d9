// Purpose: a producer fills batches, a consumer adds them up; each batch is written once and read
//          where it is. The C++ handles of aep/dsm.hpp.
// Who calls it: people who begin, and the tests:
//     aep run -- batches consume 100 & aep run -- batches produce 100
// Crash rule: killed at any moment, either of them leaves nothing behind but batches under way.
#include <aep/dsm.hpp>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace {

namespace dsm = aep::dsm;

struct Batch {
    std::uint64_t first = 0;
    std::array<std::uint64_t, 1000> numbers{};
};

void consume(unsigned batches) {
    dsm::attach("consumer");
    std::puts("waiting");
    std::fflush(stdout);
    std::uint64_t sum = 0;
    std::vector<dsm::Ref<Batch>> some;
    for (std::size_t seen = 0; seen < batches;) {
        seen += dsm::receive_many(some, batches - seen);  // waits for one, takes what is there
        for (const auto& batch : some)
            for (const std::uint64_t number : batch->numbers) sum += number;
        dsm::reset_many(std::span(some));  // their memory goes back to the producer
        some.clear();
    }
    std::printf("%llu\n", static_cast<unsigned long long>(sum));
}

int produce(unsigned batches) {
    dsm::attach();
    const auto consumer = dsm::lookup("consumer");
    if (!consumer) {
        std::fputs("nobody is called consumer\n", stderr);
        return 1;
    }
    for (unsigned i = 0; i < batches; ++i) {
        const auto batch = dsm::make<Batch>();
        batch->first = std::uint64_t{i} * batch->numbers.size();
        for (std::size_t n = 0; n < batch->numbers.size(); ++n)
            batch->numbers[n] = batch->first + n;
        batch.send(*consumer, dsm::FOREVER);  // waits while the mailbox is full
    }
    return 0;
}

}  // namespace

int main(int count, char** words) {
    if (count != 3) {
        std::fputs("usage: batches consume N | batches produce N\n", stderr);
        return 2;
    }
    const unsigned batches = static_cast<unsigned>(std::strtoul(words[2], nullptr, 10));
    try {
        if (std::string_view(words[1]) == "produce") return produce(batches);
        consume(batches);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "batches: %s\n", error.what());
        return 1;
    }
}
