// Purpose: see client.hpp.
// Who calls it: see client.hpp.
// Crash rule: see client.hpp.
#include "shim/context/client.hpp"

namespace aep {

constinit Client this_client{};

}  // namespace aep
