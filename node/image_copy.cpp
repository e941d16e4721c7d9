// Purpose: see image_copy.hpp.
// Who calls it: the node host.
// Crash rule: see image_copy.hpp.
#include "node/image_copy.hpp"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include <fstream>
#include <iterator>

#include <image_identity.hpp>
#include "dsm-core/pool/format.hpp"
#include "node/node_error.hpp"
#include "node/paths.hpp"

namespace aep {
namespace {

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

int make_memory_file(const std::string& name) {
    constexpr unsigned FLAGS = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    const int fd = memfd_create(name.c_str(), FLAGS | MFD_EXEC);
    // Before Linux 6.3 memory files are executable without asking.
    return fd < 0 && errno == EINVAL ? memfd_create(name.c_str(), FLAGS) : fd;
}

}  // namespace

UniqueFd copy_image(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw NodeError(ENOENT,
                        fmt::format("image {}: cannot be read: is AEP installed whole?", path));
    }
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    const u64 hash = fnv1a(reinterpret_cast<const u8*>(bytes.data()), bytes.size());
    if (bytes.size() != BUILT_IMAGE_BYTES || hash != BUILT_IMAGE_HASH) {
        throw NodeError(ENOEXEC,
                        fmt::format("image {}: hash is {:#x}, expected {:#x}: it is another "
                                    "version's; install both together",
                                    path, hash, BUILT_IMAGE_HASH));
    }
    return sealed_copy("image", bytes);
}

UniqueFd sealed_copy(const std::string& what, std::string_view bytes) {
    UniqueFd fd(make_memory_file("aep-" + what));
    if (!fd || write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
        throw NodeError(errno,
                        fmt::format("{}: cannot copy it to memory: {}", what, errno_text(errno)));
    }
    constexpr int SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    if (fcntl(fd.get(), F_ADD_SEALS, SEALS) != 0)
        throw NodeError(errno, fmt::format("{}: cannot seal it: {}", what, errno_text(errno)));
    return fd;
}

std::string default_image_path() {
    return companion({"../aep-lib/image/aep-image", "../lib/aep/aep-image"},
                     "/usr/lib/aep/aep-image");
}

}  // namespace aep
