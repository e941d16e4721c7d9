// Purpose: see pins.hpp.
// Who calls it: see pins.hpp.
// Crash rule: see pins.hpp.
#include "aep-lib/provider/pins.hpp"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace aep {
namespace {

std::string failed(const std::string& what, int error) { return what + ": " + strerror(error); }

bool is_bpffs(const char* path) {
    struct statfs status {};
    return statfs(path, &status) == 0 && status.f_type == BPF_FS_MAGIC;
}

std::string parent_of(const std::string& path) {
    return std::filesystem::path(path).parent_path().string();
}

bool is(const struct stat& status, const CapturePlace& place) {
    return status.st_dev == place.device && status.st_ino == place.inode;
}

void read_boot_id(unsigned char (&id)[40]) {
    memset(id, 0, sizeof id);
    const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (read(fd, id, sizeof id - 1) < 0) id[0] = 0;
    close(fd);
}

/// What is wrong with a folder above or of pins. `last`: of them.
std::string fault_of(const std::string& path, bool last) {
    struct stat status {};
    if (lstat(path.c_str(), &status) != 0) return failed("eBPF: " + path, errno);
    if (!S_ISDIR(status.st_mode)) return "eBPF: " + path + ": is no directory: remove it";
    if (!is_bpffs(path.c_str()))
        return "eBPF: " + path + ": is not on a bpffs: mount -t bpf bpf /sys/fs/bpf";
    const bool ours = status.st_uid == geteuid();
    if (!ours && (last || status.st_uid != 0)) {
        return fmt::format(
            "eBPF: {}: belongs to user {}, who could take the programs away: let the administrator "
            "remove it",
            path, status.st_uid);
    }
    const bool sticky = (status.st_mode & S_ISVTX) != 0;
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (last || !sticky))
        return "eBPF: " + path + ": others may write to it: chmod go-w " + path;
    if (last && (status.st_mode & 077) != 0)
        return "eBPF: " + path + ": is open to others: chmod 700 " + path;
    return "";
}

/// Whether the context's file is gone, as far as can be told from here.
bool is_gone(const CaptureIdentity& identity) {
    unsigned char boot_id[sizeof identity.boot_id];
    read_boot_id(boot_id);
    if (boot_id[0] == 0 || memcmp(boot_id, identity.boot_id, sizeof boot_id) != 0) return false;
    std::string child = identity.context_file;
    if (child.empty() || child.front() != '/') return false;
    const CapturePlace* former = &identity.file;
    for (const CapturePlace& place : identity.above) {
        const std::string path = parent_of(child);
        struct stat status {};
        if (stat(path.c_str(), &status) == 0 && is(status, place)) {
            struct stat found {};
            if (lstat(child.c_str(), &found) != 0) return errno == ENOENT;
            // Another one has its name. What is mounted there hides it.
            return found.st_dev == status.st_dev && !is(found, *former);
        }
        former = &place;
        child = path;
    }
    return false;
}

}  // namespace

std::string ensure_bpffs(const char* path) {
    if (is_bpffs(path)) return {};
    if (mount("bpf", path, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0711") == 0) return {};
    return failed(std::string("cannot mount a bpffs at ") + path, errno);
}

std::string pins_of_user() { return fmt::format("{}/aep/{}", BPFFS, geteuid()); }

Outcome<std::string> pins_directory(const std::string& name, const std::string& context_file) {
    struct stat status {};
    if (stat(context_file.c_str(), &status) != 0) return Failure{failed(context_file, errno)};
    char tail[40];
    std::snprintf(tail, sizeof tail, "-%llx-%llx", static_cast<unsigned long long>(status.st_dev),
                  static_cast<unsigned long long>(status.st_ino));
    // A bpffs allows no dot in a name; no context's name has a '+'.
    std::string as_pinned = name;
    std::replace(as_pinned.begin(), as_pinned.end(), '.', '+');
    return pins_of_user() + "/" + as_pinned + tail;
}

std::string make_pins_directory(const std::string& directory) {
    const usize top = strlen(BPFFS);
    for (usize end = top;; end = directory.find('/', end + 1)) {
        const std::string part = directory.substr(0, end);
        const bool last = end == std::string::npos;
        // Others have folders of their own in the first one.
        const mode_t mode = part == std::string(BPFFS) + "/aep" ? 0711 : 0700;
        const bool made = end != top && mkdir(part.c_str(), mode) == 0;
        if (made && chmod(part.c_str(), mode) != 0) return failed("eBPF: " + part, errno);
        if (!made && end != top && errno != EEXIST) {
            std::string error = failed("eBPF: " + part, errno);
            if (geteuid() != 0) error += ": an administrator makes it for this user: see aepd(8)";
            return error;
        }
        if (std::string fault = fault_of(part, last); !fault.empty()) return fault;
        if (last) return "";
    }
}

void identify_context(const std::string& context_file, CaptureIdentity& identity) {
    read_boot_id(identity.boot_id);
    struct stat status {};
    std::error_code ignored;
    const std::string path = std::filesystem::canonical(context_file, ignored).string();
    // Cut short it would name another file, which is not there: too long a path is none.
    if (path.empty() || path.size() >= sizeof identity.context_file ||
        stat(path.c_str(), &status) != 0)
        return;
    path.copy(identity.context_file, sizeof identity.context_file - 1);
    identity.file = {status.st_dev, status.st_ino};
    std::string folder = path;
    for (CapturePlace& place : identity.above) {
        if (folder == "/") return;
        folder = parent_of(folder);
        if (stat(folder.c_str(), &status) != 0) return;
        place = {status.st_dev, status.st_ino};
    }
}

std::string remove_contents(const std::string& directory) {
    const auto remove = [&](const char* name) {
        const std::string path = directory + "/" + name;
        return unlink(path.c_str()) == 0 || errno == ENOENT ? std::string() : failed(path, errno);
    };
    std::string error = remove(PINNED_IDENTITY);
    for (const char* name : PINNED_LINKS)
        if (error.empty()) error = remove(name);
    for (const char* name : PINNED_MAPS)
        if (error.empty()) error = remove(name);
    return error;
}

std::string remove_pins(const std::string& directory) {
    std::string error = remove_contents(directory);
    if (error.empty() && rmdir(directory.c_str()) != 0 && errno != ENOENT)
        error = failed(directory, errno);
    return error;
}

std::string remove_pins_of(const std::string& name, const std::string& context_file) {
    auto directory = pins_directory(name, context_file);
    if (!directory) return "";
    struct stat status {};
    if (lstat(directory->c_str(), &status) != 0) return "";  // none
    const std::string fault = fault_of(*directory, true);
    return fault.empty() ? remove_pins(*directory) : fault;
}

bool read_identity(const std::string& directory, CaptureIdentity& identity) {
    const int map = bpf_obj_get((directory + "/" + PINNED_IDENTITY).c_str());
    if (map < 0) return false;
    bpf_map_info info{};
    u32 bytes = sizeof info;
    const u32 zero = 0;
    // Another build's may be of another size.
    const bool read = bpf_obj_get_info_by_fd(map, &info, &bytes) == 0 &&
                      info.value_size == sizeof identity &&
                      bpf_map_lookup_elem(map, &zero, &identity) == 0;
    close(map);
    identity.context_file[sizeof identity.context_file - 1] = '\0';
    return read;
}

u32 remove_orphaned_pins(const std::string& parent) {
    u32 removed = 0;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(parent, ignored)) {
        const std::string directory = entry.path();
        // Pinned last: a folder without it is being filled just now, or will be filled anew.
        CaptureIdentity identity{};
        if (!fault_of(directory, true).empty() || !read_identity(directory, identity)) continue;
        if (is_gone(identity)) removed += remove_pins(directory).empty();
    }
    return removed;
}

}  // namespace aep
