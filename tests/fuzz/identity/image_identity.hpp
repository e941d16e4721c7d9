// Purpose: the image of the fuzz targets: clang builds none, and nothing of one is executed. A file
//          with this text takes its place (fuzz_host.hpp).
// Who calls it: what includes image_identity.hpp in a fuzz build.
// Crash rule: no state.
#pragma once

#include "dsm-core/pool/format.hpp"

namespace aep {

inline constexpr u8 FUZZ_IMAGE[] = {'n', 'o', ' ', 'i', 'm', 'a', 'g', 'e'};
inline constexpr u64 BUILT_IMAGE_BYTES = sizeof FUZZ_IMAGE;
inline constexpr u64 BUILT_IMAGE_HASH = fnv1a(FUZZ_IMAGE, sizeof FUZZ_IMAGE);

}  // namespace aep
