// Purpose: the named crash points of an image: names and addresses, from the notes in its file.
// Who calls it: the torture's driver.
// Crash rule: reads only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace aep::torture {

/// Every point of the node's and the heap's operations that the image has, with all its addresses
/// (a function may be inlined at several places). Throws std::runtime_error for a file that is no
/// image. `nodes`: those of what crosses nodes, too.
std::map<std::string, std::vector<std::uint64_t>> points_of_image(
    const std::filesystem::path& image, bool nodes);

}  // namespace aep::torture
