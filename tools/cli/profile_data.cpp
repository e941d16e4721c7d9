// Purpose: see profile_data.hpp.
// Who calls it: see profile_data.hpp.
// Crash rule: none needed.
#include "tools/cli/profile_data.hpp"

#include <errno.h>
#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "node/node_error.hpp"
#include "shim/watch/profile_text.hpp"

namespace aep {

namespace {

struct Text {
    std::string text;
    void add(const char* more) { text += more; }
    void add(u64 value) { text += std::to_string(value); }
    void add(Hex hex) { text += fmt::format("{:#x}", hex.value); }
};

[[noreturn]] void refuse(const std::string& path, size_t line, const char* why) {
    throw NodeError(EINVAL, fmt::format("{}:{}: {}", path, line, why));
}

/// "LIVE: BYTES [MADE: BYTES] @" and what follows. False: it is something else.
bool parse_sums(const std::string& line, size_t from, SampleSum& sum, std::string& rest) {
    unsigned long long live = 0, live_bytes = 0, made = 0, made_bytes = 0;
    int end = 0;
    const int got = std::sscanf(line.c_str() + from, " %llu: %llu [%llu: %llu] @%n", &live,
                                &live_bytes, &made, &made_bytes, &end);
    if (got != 4 || end == 0) return false;
    sum = {live, live_bytes, made, made_bytes};
    rest = line.substr(from + static_cast<size_t>(end));
    return true;
}

ProfileSite parse_site(const std::string& path, size_t number, const std::string& line) {
    SampleSum sum;
    std::string rest;
    if (!parse_sums(line, 0, sum, rest) || sum.made_count == 0 || sum.live_count > sum.made_count)
        refuse(path, number,
               "not a line of a heap profile (expected LIVE: BYTES [MADE: BYTES] @ ADDRESSES)");
    ProfileSite site{
        sum.made_bytes / sum.made_count, sum.made_count, sum.made_count - sum.live_count, {}};
    std::istringstream words(rest);
    for (std::string word; words >> word;) {
        size_t used = 0;
        u64 address = 0;
        try {
            address = std::stoull(word, &used, 16);
        } catch (const std::exception&) {
            used = 0;
        }
        if (used != word.size()) refuse(path, number, "not an address (expected 0x and digits)");
        site.frames.push_back(address);
    }
    return site;
}

}  // namespace

std::string profile_text(const ProfileData& profile) {
    Text out;
    write_profile(
        out, profile.rate,
        [&](auto&& f) {
            for (const ProfileSite& s : profile.sites)
                f(s.size, s.made, s.freed, s.frames.data(), static_cast<u32>(s.frames.size()));
        },
        [&] { out.text += profile.map; });
    return std::move(out.text);
}

ProfileData read_profile(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw NodeError(errno, path + ": " + errno_text(errno));
    ProfileData profile;
    constexpr const char* HEAD = "heap profile:";
    std::string line, rest;
    SampleSum total;
    size_t number = 1;
    if (!std::getline(file, line) || line.rfind(HEAD, 0) != 0 ||
        !parse_sums(line, std::string(HEAD).size(), total, rest))
        refuse(path, number, "not a heap profile (expected what AEP_PROFILE or aep profile wrote)");
    unsigned long long rate = 0;
    if (std::sscanf(rest.c_str(), " heap_v2/%llu", &rate) != 1 || rate == 0)
        refuse(path, number, "a heap profile of another kind (expected heap_v2/RATE)");
    profile.rate = rate;
    while (std::getline(file, line)) {
        ++number;
        if (line == "MAPPED_LIBRARIES:") break;
        if (!line.empty()) profile.sites.push_back(parse_site(path, number, line));
    }
    while (std::getline(file, line)) profile.map += line + "\n";
    return profile;
}

ProfileSums sums_of(const ProfileData& profile) {
    ProfileSums sums;
    for (const ProfileSite& site : profile.sites) {
        const double each = weight_of_sample(site.size, profile.rate);
        const double size = site.size == 0 ? 1 : static_cast<double>(site.size);
        const double live = each * static_cast<double>(site.made - site.freed);
        const double made = each * static_cast<double>(site.made);
        sums.live_bytes += live;
        sums.live_blocks += live / size;
        sums.made_bytes += made;
        sums.made_blocks += made / size;
    }
    return sums;
}

}  // namespace aep
