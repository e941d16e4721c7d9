// Purpose: the backing of a client of a context: chunks come by node operations from what the
//          context's node has, and their metadata lies in the context.
// Who calls it: process.cpp.
// Crash rule: see joined_backing.cpp.
#pragma once

#include "shim/backing/backing.hpp"

namespace aep {

/// The backing, after join_context.
const Backing* joined_backing();

}  // namespace aep
