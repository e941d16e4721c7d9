// Purpose: `aep profile`: the heap profile of a running process, or of a file of it, as file or picture.
// Who calls it: cli/main.cpp.
// Crash rule: none needed.
#pragma once

#include <optional>
#include <string>

#include "dsm-core/base/types.hpp"

namespace aep {

struct ProfileOptions {
    std::string subject;  // a process's number, or a profile's file
    std::string output;   // the profile; empty: aep.PID.heap, unless there is a picture
    std::string flame;    // the picture; empty: none
    std::string rate;     // bytes between samples, or with K, M, G
    std::optional<double> seconds;
    bool made = false;  // the picture: all that was allocated
    bool keep = false;  // it stays on
    bool json = false;
};

/// Returns the exit status; throws NodeError.
int profile(const ProfileOptions& options);

}  // namespace aep
