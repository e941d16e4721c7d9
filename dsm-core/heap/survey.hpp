// Purpose: how much of the domain is used for what: one walk over all chunks.
// Who calls it: statistics (mallinfo2, malloc_info, AEP_STATS), tests.
// Crash rule: reads only.
#pragma once

#include "dsm-core/heap/domain.hpp"

namespace aep {

struct Survey {
    u64 chunk_bytes = 0;     // held
    u64 free_run_bytes = 0;  // in no page or object
    u64 dirty_bytes = 0;     // of these, with memory behind them
    u64 page_count = 0;
    u64 page_bytes = 0;
    u64 block_count = 0;  // live on pages; those freed by others and not yet collected are, too
    u64 block_bytes = 0;
    u64 large_count = 0;
    u64 large_bytes = 0;
    struct PerClass {
        u64 pages = 0;
        u64 blocks = 0;
    } classes[CLASS_COUNT];
};

/// Walks the domain. Other threads may go on: the sums are then approximate, never unsafe. Linear
/// in the pages.
Survey survey(const Domain& dom);

}  // namespace aep
