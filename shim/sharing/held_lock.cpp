// Purpose: see held_lock.hpp.
// Who calls it: see held_lock.hpp.
// Crash rule: see held_lock.hpp.
#include "shim/sharing/held_lock.hpp"

namespace aep {

__thread u32 held_kinds __attribute__((tls_model("initial-exec"))) = 0;

}  // namespace aep
