// Purpose: standard containers that are sent whole: a std::pmr map of vectors of strings, which the
//          receiver reads, and one with group_allocator, which it goes on writing.
// Who calls it: people who begin, and the tests:
//     aep run -- containers count & aep run -- containers send "the quick brown the"
// Crash rule: killed at any moment, either of them leaves nothing behind.
#include <aep/group.hpp>

#include <cstdio>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace dsm = aep::dsm;

/// Words by their length.
using Words = std::pmr::map<std::size_t, std::pmr::vector<std::pmr::string>>;

using Text = std::basic_string<char, std::char_traits<char>, dsm::group_allocator<char>>;
using Counts =
    std::map<Text, unsigned, std::less<>, dsm::group_allocator<std::pair<const Text, unsigned>>>;

void send(const std::string& text) {
    dsm::attach("sender");
    const dsm::Id counter = dsm::lookup("counter").value();

    const dsm::Group words_group = dsm::Group::create();
    dsm::group_resource resource(words_group.get());
    Words* words = words_group.make<Words>(&resource);
    std::istringstream in(text);
    for (std::string word; in >> word;) (*words)[word.size()].emplace_back(word);
    words_group.set_root(words);
    words_group.send(counter);

    const dsm::Group counts_group = dsm::Group::create();
    counts_group.set_root(counts_group.make<Counts>(counts_group.allocator<Counts::value_type>()));
    counts_group.send(counter);
    dsm::receive<int>(counter);  // it has it: now it can become the writer
    counts_group.hand_over(counter);
    dsm::make<int>(0).send(counter);
}

void count() {
    dsm::attach("counter");
    std::puts("waiting");
    std::fflush(stdout);
    const auto words = dsm::receive_root<const Words>();
    dsm::Root<Counts> empty = dsm::receive_root<Counts>(words.sender());
    dsm::make<int>(0).send(words.sender());
    dsm::receive<int>(words.sender());
    const dsm::Group group(empty.release());
    Counts& counts = *group.root<Counts>();
    for (const auto& [length, same] : *words)
        for (const std::pmr::string& word : same)
            ++counts[Text(word.data(), word.size(), group.allocator<char>())];
    for (const auto& [word, times] : counts) std::printf("%s %u\n", word.c_str(), times);
}

}  // namespace

int main(int count_of_words, char** words) {
    const std::string_view what = count_of_words > 1 ? words[1] : "";
    try {
        if (what == "count" && count_of_words == 2) return count(), 0;
        if (what == "send" && count_of_words == 3) return send(words[2]), 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "containers: %s\n", error.what());
        return 1;
    }
    std::fputs("usage: containers count | containers send TEXT\n", stderr);
    return 2;
}
