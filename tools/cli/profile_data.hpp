// Purpose: a heap profile in this process: of another one, or of a file.
// Who calls it: cli/profile.cpp and what it uses.
// Crash rule: none needed.
#pragma once

#include <string>
#include <vector>

#include "dsm-core/base/types.hpp"

namespace aep {

struct ProfileSite {
    u64 size = 0;             // bytes of each allocation
    u64 made = 0, freed = 0;  // samples
    std::vector<u64> frames;  // return addresses, the innermost first
};

struct ProfileData {
    u64 rate = 0;
    std::vector<ProfileSite> sites;
    std::string map;  // as /proc/PID/maps has it
};

/// As text that jeprof, google-pprof and `go tool pprof` read.
std::string profile_text(const ProfileData& profile);
/// Reads that text from a file. Throws NodeError, with the line that is not understood.
ProfileData read_profile(const std::string& path);

/// What the samples stand for.
struct ProfileSums {
    double live_bytes = 0, live_blocks = 0, made_bytes = 0, made_blocks = 0;
};
ProfileSums sums_of(const ProfileData& profile);

}  // namespace aep
