// Purpose: a result of shim, 0 or -errno, as the C API gives it.
// Who calls it: the C API of sharing: dsm.cpp, group.cpp.
// Crash rule: no state.
#pragma once

#include <errno.h>

#include "dsm-core/base/types.hpp"

namespace aep {

/// 0, or -1 with errno set.
inline int errno_result(long result) {
    if (AEP_LIKELY(result == 0)) return 0;
    errno = static_cast<int>(-result);
    return -1;
}

}  // namespace aep
