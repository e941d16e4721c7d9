// Purpose: how lines of a pool reach its memory, where that outlives the machine whose caches hold them.
// Who calls it: pool_member.cpp; the daemon's options.
// Crash rule: no state.
#pragma once

#include "dsm-core/era/flush.hpp"
#include "shim/backing/pool_file.hpp"

namespace aep {

/// By the instruction that this processor has. Throws NodeError: it has none.
era::PoolCaches written_back();

/// For a pool of which nobody has said it. Throws NodeError.
era::PoolCaches usual_caches(const PoolFile& file);

}  // namespace aep
