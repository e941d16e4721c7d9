// Purpose: what every test with the eBPF provider needs: a bpffs of its own, or why there is none;
//          and a look at who waits inside the image.
// Who calls it: tests/provider, tests/node/perform_ebpf.cpp.
// Crash rule: the mount namespace ends with the test's process, and everything pinned in it.
#pragma once

#include <dirent.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/types.h>

#include <cerrno>
#include <fstream>
#include <set>
#include <string>

#include "aep-lib/image/image_info.hpp"
#include "aep-lib/provider/ebpf_provider.hpp"

namespace aep::test {

inline std::string own_bpffs() {
    static const std::string error = [] {
        if (unshare(CLONE_NEWNS) != 0 ||
            mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
            return std::string("a mount namespace of the test's own: ") + strerror(errno);
        // Another one than the system's, which may be there already.
        if (mount("bpf", BPFFS, "bpf", 0, nullptr) != 0)
            return std::string("a bpffs: ") + strerror(errno);
        return ensure_bpffs();
    }();
    return error;
}

/// Says in one line why eBPF cannot be used here; empty: it can.
inline std::string why_no_ebpf() {
    std::string why;
    for (const std::string& line : missing_for_ebpf()) why += (why.empty() ? "" : "; ") + line;
    return why.empty() ? own_bpffs() : why;
}
#define AEP_NEED_EBPF() \
    if (const std::string why = ::aep::test::why_no_ebpf(); !why.empty()) GTEST_SKIP() << why

/// The threads of the process that wait in futex calls of the image now.
inline std::set<std::string> waiting_in_image(const ImageInfo& image, pid_t process) {
    const std::string tasks = "/proc/" + std::to_string(process) + "/task";
    std::set<std::string> found;
    DIR* directory = opendir(tasks.c_str());
    if (directory == nullptr) return found;
    while (const dirent* entry = readdir(directory)) {
        if (entry->d_name[0] == '.') continue;
        std::ifstream file(tasks + "/" + entry->d_name + "/syscall");
        std::string number, word, rip;
        file >> number;
        while (file >> word) rip = word;
        if (number != "202") continue;
        const u64 at = std::stoull(rip, nullptr, 16);
        if (at >= image.text_begin && at < image.text_end) found.insert(entry->d_name);
    }
    closedir(directory);
    return found;
}

/// Whether as many threads of the process wait there.
inline bool wait_in_image(const ImageInfo& image, pid_t process, usize threads) {
    return waiting_in_image(image, process).size() == threads;
}

}  // namespace aep::test
