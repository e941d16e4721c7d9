// Purpose: a table that is replaced as a whole again and again while a reader looks at it: what was
//          replaced is used again, and when the writer has gone the reader writes on.
// Who calls it: people who begin, and the tests:
//     aep run -- prices follow & aep run -- prices publish 10000
// Crash rule: killed at any moment, the writer leaves the last edition that it published, whole.
#include <aep/group.hpp>

#include <atomic>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

namespace {

namespace dsm = aep::dsm;

using Prices = std::map<int, long, std::less<>, dsm::group_allocator<std::pair<const int, long>>>;
constexpr int ARTICLES = 500;

struct Edition {
    long number;
    bool last;
    Prices prices;
};
/// The root, which stays. One store publishes.
struct Board {
    std::atomic<Edition*> current{nullptr};
};

void publish(const dsm::Group& group, Board& board, long number, bool last) {
    auto* edition =
        group.make<Edition>(number, last, Prices(group.allocator<Prices::value_type>()));
    for (int i = 0; i < ARTICLES; ++i) edition->prices.emplace(i, number * i);
    Edition* const former = board.current.exchange(edition);
    group.destroy(former);  // used again when nobody looks at it
}

void publish_all(long editions) {
    dsm::attach("publisher");
    const dsm::Id follower = dsm::lookup("follower").value();
    const dsm::Group group = dsm::Group::create();
    auto* board = group.make<Board>();
    group.set_root(board);
    publish(group, *board, 1, editions == 1);
    group.send(follower, std::chrono::seconds(10));
    for (long number = 2; number <= editions; ++number)
        publish(group, *board, number, number == editions);
}

void follow() {
    dsm::attach("follower");
    std::puts("waiting");
    std::fflush(stdout);
    auto board = dsm::receive_root<Board>();
    long number = 0;
    for (bool last = false; !last;) {
        board.look([&](const Board& now) {
            const Edition& edition = *now.current;
            number = edition.number;
            last = edition.last;
            for (const auto& [article, price] : edition.prices)
                if (price != number * article) throw std::runtime_error("an edition is not whole");
        });
    }
    // The publisher closes the group as it ends, or has died: whichever it is, it goes on here.
    for (;;) {
        try {
            const dsm::Group group = board.take_over();
            publish(group, *group.root<Board>(), number + 1, true);
            std::printf("edition %ld is ours\n", group.root<Board>()->current.load()->number);
            return;
        } catch (const std::system_error& error) {
            if (error.code().value() != EPERM) throw;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));  // it is still there
        }
    }
}

}  // namespace

int main(int count, char** words) {
    const std::string_view what = count > 1 ? words[1] : "";
    try {
        if (what == "follow" && count == 2) return follow(), 0;
        if (what == "publish" && count == 3) return publish_all(std::stol(words[2])), 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "prices: %s\n", error.what());
        return 1;
    }
    std::fputs("usage: prices follow | prices publish EDITIONS\n", stderr);
    return 2;
}
