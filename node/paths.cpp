// Purpose: see paths.hpp.
// Who calls it: the node host, the daemon, the command line.
// Crash rule: see paths.hpp.
#include "node/paths.hpp"

#include <errno.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "node/node_error.hpp"
#include "shim/context/daemon_protocol.hpp"
#include "shim/sys/environment.hpp"

namespace aep {

std::string errno_text(int error) {
    const char* code = strerrorname_np(error);
    return std::string(code != nullptr ? code : "errno") + " (" + std::strerror(error) + ")";
}

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
        throw NodeError(EINVAL, "context name '" + name +
                                    "': expected 1 to 63 letters, digits, '.', '_' or '-', and "
                                    "no '.' at the beginning");
    }
    const std::string uid = std::to_string(geteuid());
    ContextPaths paths{name, directory, socket, socket.empty()};
    if (directory.empty()) paths.directory = "/dev/shm/aep-" + uid + "-" + name;
    if (socket.empty()) {
        const char* runtime = std::getenv("XDG_RUNTIME_DIR");
        std::string base = "/tmp/aep-" + uid;
        if (geteuid() == 0) {
            base = "/run/aep";
        } else if (runtime != nullptr && runtime[0] == '/') {
            base = std::string(runtime) + "/aep";
        }
        paths.socket = base + "/" + name + "/" + SOCKET_NAME;
    } else if (socket[0] != '/') {
        throw NodeError(EINVAL, "socket " + socket + ": expected an absolute path");
    }
    return paths;
}

void make_private_directory(const std::string& path) {
    for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
        const std::string above = path.substr(0, at);
        // What is missing above is made ours alone, too.
        if (mkdir(above.c_str(), 0700) != 0 && errno != EEXIST && errno != EROFS &&
            errno != EACCES) {
            throw NodeError(errno, "directory " + above + ": " + errno_text(errno));
        }
    }
    if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
        throw NodeError(errno, "directory " + path + ": " + errno_text(errno));
    }
    require_private_directory(path);
}

void require_private_directory(const std::string& path) {
    struct stat st {};
    if (lstat(path.c_str(), &st) != 0) {
        throw NodeError(errno, "directory " + path + ": " + errno_text(errno));
    }
    if (!S_ISDIR(st.st_mode)) {
        throw NodeError(ENOTDIR, "directory " + path + ": is something else; remove it");
    }
    if (st.st_uid != geteuid()) {
        throw NodeError(EPERM, "directory " + path + ": belongs to user " +
                                   std::to_string(st.st_uid) + ", expected " +
                                   std::to_string(geteuid()) + ": somebody else made it");
    }
    if ((st.st_mode & 077) != 0) {
        throw NodeError(
            EPERM, "directory " + path + ": others may enter it; chmod 700 it if they did not");
    }
}

void require_tmpfs(const std::string& directory) {
    struct statfs fs {};
    if (statfs(directory.c_str(), &fs) != 0) {
        throw NodeError(errno, "directory " + directory + ": " + errno_text(errno));
    }
    if (static_cast<unsigned long>(fs.f_type) != TMPFS_MAGIC) {
        throw NodeError(EINVAL, "directory " + directory +
                                    ": is not on tmpfs, where a context must lie: use /dev/shm");
    }
}

}  // namespace aep
