// Purpose: see paths.hpp.
// Who calls it: the node host, the daemon, the command line.
// Crash rule: see paths.hpp.
#include "node/paths.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "node/node_error.hpp"
#include "shim/context/daemon_protocol.hpp"
#include "shim/sys/environment.hpp"

namespace aep {
namespace {

[[noreturn]] void fail(const std::string& directory) {
    throw NodeError(errno, fmt::format("directory {}: {}", directory, errno_text(errno)));
}

}  // namespace

std::string companion(const std::vector<std::string>& places, const std::string& otherwise) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    const fs::path here = fs::read_symlink("/proc/self/exe", ignored).parent_path();
    for (const std::string& place : places) {
        const fs::path path = (here / place).lexically_normal();
        if (fs::exists(path, ignored)) return path;
    }
    return otherwise;
}

bool is_context_name(const std::string& name) {
    if (name.empty() || name.size() > 63 || name[0] == '.') return false;
    for (const char c : name) {
        const bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        if (!fits) return false;
    }
    return true;
}

ContextPaths context_paths(const std::string& name, const std::string& directory,
                           const std::string& socket) {
    if (name == NO_CONTEXT) {
        throw NodeError(EINVAL,
                        "context name 'none': that says that a program joins no context "
                        "(AEP_CONTEXT=none), and names none: give another with --context, "
                        "or unset AEP_CONTEXT");
    }
    if (!is_context_name(name)) {
        throw NodeError(EINVAL, fmt::format("context name '{}': expected 1 to 63 letters, digits, "
                                            "'.', '_' or '-', and no '.' at the beginning",
                                            name));
    }
    const uid_t uid = geteuid();
    ContextPaths paths{name, directory, socket, socket.empty()};
    if (directory.empty()) paths.directory = fmt::format("/dev/shm/aep-{}-{}", uid, name);
    if (socket.empty()) {
        const char* runtime = std::getenv("XDG_RUNTIME_DIR");
        std::string base = fmt::format("/tmp/aep-{}", uid);
        if (uid == 0)
            base = "/run/aep";
        else if (runtime != nullptr && runtime[0] == '/')
            base = fmt::format("{}/aep", runtime);
        paths.socket = fmt::format("{}/{}/{}", base, name, SOCKET_NAME);
    } else if (socket[0] != '/') {
        throw NodeError(EINVAL, fmt::format("socket {}: expected an absolute path", socket));
    }
    return paths;
}

void make_private_directory(const std::string& path) {
    for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
        const std::string above = path.substr(0, at);
        // What is missing above is made ours alone, too.
        if (mkdir(above.c_str(), 0700) != 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
            fail(above);
    }
    if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) fail(path);
    require_private_directory(path);
}

void require_private_directory(const std::string& path) {
    struct stat st {};
    if (lstat(path.c_str(), &st) != 0) fail(path);
    if (!S_ISDIR(st.st_mode))
        throw NodeError(ENOTDIR, fmt::format("directory {}: is something else; remove it", path));
    if (st.st_uid != geteuid()) {
        throw NodeError(EPERM,
                        fmt::format("directory {}: belongs to user {}, expected {}: somebody "
                                    "else made it",
                                    path, st.st_uid, geteuid()));
    }
    if ((st.st_mode & 077) != 0) {
        throw NodeError(EPERM,
                        fmt::format("directory {}: others may enter it; chmod 700 it if they "
                                    "did not",
                                    path));
    }
}

void require_tmpfs(const std::string& directory) {
    struct statfs fs {};
    if (statfs(directory.c_str(), &fs) != 0) fail(directory);
    if (static_cast<unsigned long>(fs.f_type) != TMPFS_MAGIC) {
        throw NodeError(EINVAL,
                        fmt::format("directory {}: is not on tmpfs, where a context must lie: "
                                    "use /dev/shm",
                                    directory));
    }
}

}  // namespace aep
