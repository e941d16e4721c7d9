// Purpose: walks all that is shared by reference: every count against what it counts.
// Who calls it: Checker.
// Crash rule: reads only.
#pragma once

#include "node/findings.hpp"

namespace aep {

/// Adds what is wrong to `found`. While clients are at it the walk is tried again, up to a bound;
/// one that never found a quiet moment is a finding, too, which says so. It ends when the check is
/// over.
void check_sharing(Findings& found);

}  // namespace aep
