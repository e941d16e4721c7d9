// Purpose: as in_c.c, with the handles and channels of aep/dsm.hpp.
// Who calls it: installed.py, built with find_package(aep).
// Crash rule: none needed.
#include <aep/dsm.hpp>
#include <aep/group.hpp>

#include <cstring>
#include <fstream>
#include <iostream>
#include <ranges>
#include <string>

namespace {

namespace dsm = aep::dsm;

struct Line {
    char text[100] = {};
};
static_assert(std::ranges::input_range<dsm::Channel<Line>>);

void print_libraries() {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);)
        if (line.find("libaepmalloc") != std::string::npos)
            std::cout << line.substr(line.find('/')) << "\n";
}

/// What does not hold is said; false then.
bool expect(bool holds, const char* what) {
    if (!holds) std::cout << "not so: " << what << std::endl;
    return holds;
}

}  // namespace

int main() {
    dsm::attach("in_cpp");
    const auto channel = dsm::Channel<Line>::to("in_cpp");
    bool good = expect(channel.peer() == dsm::self(), "it leads here");
    good &= expect(channel.fd() == dsm::fd(), "one descriptor");
    good &= expect(!channel.try_receive(), "nothing waits");
    good &= expect(!channel.receive(std::chrono::milliseconds(1)), "nothing comes");

    const dsm::Group group = dsm::Group::create();
    good &= expect(group.bytes() > 0, "a group");

    auto line = dsm::make<Line>();
    std::strcpy(line->text, "a message to myself");
    while (channel.try_send(line)) continue;
    good &= expect(dsm_references(line.get()) == 513, "the mailbox is full");
    bool timed_out = false;
    try {
        channel.send(line, std::chrono::milliseconds(1));
    } catch (const std::system_error& error) {
        timed_out = error.code() == std::errc::timed_out;
    }
    good &= expect(timed_out, "no room came");
    unsigned received = 0;
    for (dsm::Ref<Line> one : channel) {  // its peer, we, does not die
        good &= expect(one.get() == line.get() && one.sender() == dsm::self(), "the same object");
        if (++received == 512) break;
    }
    channel.send(std::move(line));
    good &= expect(!line, "the reference is gone with the message");
    const auto last = channel.try_receive();
    good &= expect(dsm_references(last.get()) == 1, "the last reference");
    std::cout << last->text << std::endl;
    print_libraries();
    return good ? 0 : 1;
}
