// Purpose: the image as a sealed file in memory (and what else is to stay as it is): what clients
//          map cannot be changed by anybody, nor by an upgrade of the installed one, and needs no
//          file system that allows execution.
// Who calls it: the node host; a completer may be given the descriptor.
// Crash rule: it lives as long as somebody maps it.
#pragma once

#include <string>
#include <string_view>

#include "node/unique_fd.hpp"

namespace aep {

/// Copies the image at `path` after checking that it is the one of this build. Throws NodeError.
UniqueFd copy_image(const std::string& path);

/// A file in memory with these bytes, which nobody can change. Throws NodeError.
UniqueFd sealed_copy(const std::string& what, std::string_view bytes);

/// Where the image is that belongs to the running program: beside it in a build, or installed.
std::string default_image_path();

}  // namespace aep
