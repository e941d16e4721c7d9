// Purpose: a heap profile as a picture: a flame graph in SVG. After Brendan Gregg's.
// Who calls it: cli/profile.cpp.
// Crash rule: none needed.
#pragma once

#include <string>

#include "tools/cli/profile_data.hpp"

namespace aep {

/// Which bytes a flame graph shows.
enum class FlameBytes { live, made };

/// SVG text: callers below, what they call on top, each as wide as the bytes that it and what it calls have. Functions
/// are named by the symbols of the files that the profile's map names.
std::string flame_graph(const ProfileData& profile, FlameBytes which);

}  // namespace aep
