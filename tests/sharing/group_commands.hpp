// Purpose: what the sharing peer does with groups.
// Who calls it: peer.cpp.
// Crash rule: it is there to be killed.
#pragma once

#include <sstream>
#include <string>

#include "include/aep/dsm.h"

namespace aep::test {

/// Does the command if it is one of groups; false: it is none.
bool obey_group(const std::string& command, std::istringstream& words, std::string& answer);

/// Makes, grows, sends, receives, reads, hands over and drops groups for ever.
void churn_groups(dsm_id peer, unsigned seed);

}  // namespace aep::test
