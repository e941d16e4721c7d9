// Purpose: see write_back.hpp.
// Who calls it: see write_back.hpp.
// Crash rule: no state.
#include "node/write_back.hpp"

#include <errno.h>

#include "node/node_error.hpp"

namespace aep {

era::PoolCaches written_back() {
    u32 a = 7, b = 0, c = 0, d = 0;
    asm("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if ((b >> 24 & 1) != 0) return era::PoolCaches::clwb;
    if ((b >> 23 & 1) != 0) return era::PoolCaches::clflushopt;
    throw NodeError(
        ENOTSUP,
        "--pool-caches: this processor has neither clwb nor clflushopt, with which lines "
        "of the pool reach it; if the pool does not outlive the machine, give coherent");
}

era::PoolCaches usual_caches(const PoolFile& file) {
    return file.memory == PoolMemory::device ? written_back() : era::PoolCaches::coherent;
}

}  // namespace aep
