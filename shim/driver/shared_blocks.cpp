// Purpose: see shared_blocks.hpp.
// Who calls it: see shared_blocks.hpp.
// Crash rule: see shared_blocks.hpp.
#include "shim/driver/shared_blocks.hpp"

namespace aep {

constinit std::atomic<const SharedBlocks*> shared_blocks{nullptr};

}  // namespace aep
