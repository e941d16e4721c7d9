// Purpose: see served_context.hpp.
// Who calls it: see served_context.hpp.
// Crash rule: see served_context.hpp.
#include "node/served_context.hpp"

#include <sys/mman.h>

#include "node/image_copy.hpp"
#include "node/node_error.hpp"
#include "shim/context/context_file.hpp"

namespace aep {

void ServedContext::map(const ContextConstants& constants, const std::string& what) {
    constants_fd_ = sealed_copy("constants of the context",
                                {reinterpret_cast<const char*>(&constants), sizeof constants});
    mapped_ = true;
    require(map_control(fd(), constants), what);
    require(map_heap_metadata(fd(), constants), what);
    for (u32 i = 1; i <= constants.max_clients; ++i) require(map_domain(fd(), i), what);
}

void ServedContext::unmap() {
    if (!mapped_) return;
    munmap(reinterpret_cast<void*>(control_base()), CONTROL_WINDOW);
    munmap(reinterpret_cast<void*>(META_BASE), META_WINDOW);
    munmap(reinterpret_cast<void*>(DESCS_BASE), DESCS_WINDOW);
    mapped_ = false;
}

}  // namespace aep
