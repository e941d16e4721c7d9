// Purpose: what eBPF needs of the system, looked up; and the image's own information.
// Who calls it: the daemon at its start, `aep doctor`, the provider's tests.
// Crash rule: reads only.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>

#include "aep-lib/provider/ebpf_provider.hpp"
#include "aep-lib/provider/image_segments.hpp"

namespace aep {
namespace {

u64 capabilities() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    if (syscall(SYS_capget, &header, data) != 0) return 0;
    return data[0].effective | u64{data[1].effective} << 32;
}

bool has(u64 capabilities, int which) { return (capabilities >> which & 1) != 0; }

bool is_bpffs(const char* path) {
    struct statfs status {};
    return statfs(path, &status) == 0 && status.f_type == BPF_FS_MAGIC;
}

/// Whether the kernel is locked down so far that programs may not read.
bool is_confidential() {
    char text[128] = "";
    const int fd = open("/sys/kernel/security/lockdown", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    return got > 0 && strstr(text, "[confidentiality]") != nullptr;
}

}  // namespace

std::vector<std::string> missing_for_ebpf() {
    std::vector<std::string> missing;
    utsname name{};
    unsigned major = 0, minor = 0;
    uname(&name);
    if (sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
        (major < 5 || (major == 5 && minor < 15)))
        missing.push_back(std::string("Linux 5.15 or later: this is ") + name.release);
    if (access("/sys/kernel/btf/vmlinux", R_OK) != 0) {
        missing.push_back(
            "/sys/kernel/btf/vmlinux: a kernel built with CONFIG_DEBUG_INFO_BTF, and /sys mounted");
    }
    const u64 have = capabilities();
    const bool admin = has(have, CAP_SYS_ADMIN);
    if (!admin && !has(have, CAP_BPF))
        missing.push_back("CAP_BPF: run the daemon as root or give it that capability");
    if (!admin && !has(have, CAP_PERFMON))
        missing.push_back("CAP_PERFMON: run the daemon as root or give it that capability");
    if (is_confidential())
        missing.push_back("kernel lockdown is 'confidentiality': eBPF may not read memory");
    if (!is_bpffs(BPFFS) && (!admin || access(BPFFS, F_OK) != 0))
        missing.push_back(std::string("a bpffs: mount -t bpf bpf ") + BPFFS);
    // Whether root's folder can be made is seen when it is.
    const std::string pins = pins_of_user();
    if (geteuid() != 0 && access(pins.c_str(), W_OK | X_OK) != 0) {
        missing.push_back(pins + ": " + strerror(errno) +
                          ": an administrator makes it for this user: see aepd(8)");
    }
    return missing;
}

Outcome<ImageInfo> read_image_info(int fd) {
    const Failure none{"the image file is none of ours: build it again"};
    Outcome<std::vector<Elf64_Phdr>> segments = loaded_segments(fd);
    if (!segments) return Failure{segments.error()};
    for (const Elf64_Phdr& segment : *segments) {
        if (segment.p_vaddr != CONTEXT_BASE) continue;
        ImageInfo info;
        const ssize_t got = pread(fd, &info, sizeof info, static_cast<off_t>(segment.p_offset));
        const bool ours = got == static_cast<ssize_t>(sizeof info) && info.magic == IMAGE_MAGIC &&
                          info.version == IMAGE_VERSION;
        return ours ? Outcome<ImageInfo>(info) : Outcome<ImageInfo>(none);
    }
    return none;
}

}  // namespace aep
