// Purpose: the pool file as a backing; until it is joined to this branch every pool is refused with
// a message. Who calls it: shim/process.cpp. Crash rule: no state.
#include "shim/backing.hpp"
#include "shim/message.hpp"

namespace aep {

const Backing* pool_backing(const char* path, usize) {
    message("pool ", path, ": this build has private mode only");
    return nullptr;
}

}  // namespace aep
