// Purpose: a mount namespace of this (child) process's own, to mount file systems in that nobody
//          else sees.
// Who calls it: the pool tests that need a full tmpfs or huge pages.
// Crash rule: the mounts end with the process.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <string>

#include "tests/unit/in_child.hpp"

namespace aep::test {

/// Whether a mount namespace can be had here; the first answer holds.
inline bool may_own_mounts() {
    static const bool may = [] {
        const pid_t child = fork();
        if (child == 0) {
            const int spaces = CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
            _exit(unshare(spaces) == 0 &&
                          mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0
                      ? 0
                      : 1);
        }
        return wait_for(child) == 0;
    }();
    return may;
}
#define AEP_NEED_OWN_MOUNTS() \
    if (!::aep::test::may_own_mounts()) GTEST_SKIP() << "neither root nor allowed to mount"

inline void write_file(const char* path, const std::string& text) {
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0) << path;
    EXPECT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size())) << path;
    close(fd);
}

/// Enters a mount namespace; one of a new user namespace where we are not root.
inline void own_mount_namespace() {
    const unsigned uid = geteuid();
    const unsigned gid = getegid();
    ASSERT_EQ(unshare(CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER)), 0)
        << "neither root nor allowed to make user namespaces";
    if (uid != 0) {
        write_file("/proc/self/setgroups", "deny");
        write_file("/proc/self/uid_map", std::to_string(uid) + " " + std::to_string(uid) + " 1");
        write_file("/proc/self/gid_map", std::to_string(gid) + " " + std::to_string(gid) + " 1");
    }
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
}

/// Mounts a file system of `type` at `directory` in a namespace of our own.
inline void own_mount(const std::string& directory, const char* type, const char* options) {
    own_mount_namespace();
    ASSERT_EQ(mount("none", directory.c_str(), type, MS_NOSUID | MS_NODEV, options), 0) << options;
}

}  // namespace aep::test
