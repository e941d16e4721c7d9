// Purpose: which version of aep/dsm.h the library implements.
// Who calls it: programs that were compiled with another one, and want to know.
// Crash rule: no state.
#include "include/aep/dsm.h"
#include "preload/export.hpp"

AEP_EXPORT int dsm_version() noexcept { return DSM_VERSION; }
