// Purpose: see kernel_provider.hpp.
// Who calls it: see kernel_provider.hpp.
// Crash rule: see kernel_provider.hpp.
#include "aep-lib/provider/kernel_provider.hpp"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <fstream>

#include "aep-lib/provider/image_segments.hpp"
#include "aep-lib/provider/seen.hpp"
#include "kernel/uapi/linux/aep.h"

namespace aep {
namespace {

constexpr long NR_AEP_OPS = 600;  // of the series; not reserved upstream
constexpr const char* SETTINGS = "/sys/kernel/mm/aep";

// What the kernel calls text is the image's window, and a pool what is the context's file.
static_assert(CONTEXT_BASE == AEP_BASE && SHADOW_ENTRY == AEP_SHADOW);
static_assert(IMAGE_WINDOW == AEP_TEXT_SIZE && OS_PAGE_SIZE == AEP_SHADOW_SIZE);
static_assert(CONTROL_BASE >= AEP_POOL_BASE && STACKS_BASE > CONTROL_BASE);

/// The result, or -errno.
long aep_ops(unsigned op, u64 a, u64 b = 0, u64 c = 0, u64 d = 0, u64 e = 0) {
    const long result = syscall(NR_AEP_OPS, op, a, b, c, d, e);
    return result == -1 ? -errno : result;
}

std::string failed(const std::string& what, long error) {
    return "kernel: " + what + ": " + strerror(static_cast<int>(-error));
}

/// Maps the image's two segments: the text, and the page that is copied as the shadow entry.
std::string map_image(int kernel_context, int image_fd) {
    Outcome<std::vector<Elf64_Phdr>> segments = loaded_segments(image_fd);
    if (!segments) return segments.error();
    for (const Elf64_Phdr& segment : *segments) {
        const u64 bytes = round_up(segment.p_filesz, OS_PAGE_SIZE);
        const long mapped =
            aep_ops(AEP_MMAP_EXEC, static_cast<u64>(kernel_context), static_cast<u64>(image_fd),
                    segment.p_vaddr, bytes, segment.p_offset);
        if (mapped < 0) return failed("mapping the image", mapped);
    }
    return "";
}

std::string map_data(int kernel_context, int context_fd, const ContextHeader& header) {
    const auto map = [&](u64 address, u64 bytes, u64 offset) {
        return aep_ops(AEP_MAP_POOL, static_cast<u64>(kernel_context), static_cast<u64>(context_fd),
                       address, bytes, offset);
    };
    long mapped = map(CONTROL_BASE, round_up(header.window_bytes, OS_PAGE_SIZE), 0);
    if (mapped == 0)
        mapped = map(STACKS_BASE, usize{header.max_slots} * STACK_STRIDE, STACKS_OFFSET);
    if (mapped == -EOPNOTSUPP)
        return "kernel: the context's directory is on a file system with storage; choose one on "
               "tmpfs";
    return mapped == 0 ? "" : failed("mapping the context's tables and stacks", mapped);
}

/// Whether what a member sees is this context.
bool sees(int pidfd, const ContextHeader& header) {
    const uptr uuid = CONTROL_BASE + offsetof(ContextConstants, uuid);
    u8 found[sizeof header.uuid];
    const iovec to{found, sizeof found}, from{reinterpret_cast<void*>(uuid), sizeof found};
    const pid_t pid = pid_of(pidfd);
    return pid != 0 && process_vm_readv(pid, &to, 1, &from, 1, 0) == sizeof found &&
           memcmp(found, header.uuid, sizeof found) == 0;
}

}  // namespace

std::vector<std::string> missing_for_kernel() {
    constexpr u64 NO_SUCH_FLAG = ~u64{0};
    const long answer = aep_ops(AEP_INIT, 0, NO_SUCH_FLAG);
    if (answer == -EINVAL) return {};
    if (access(SETTINGS, F_OK) != 0 || answer != -EPERM)
        return {"a kernel with atomic execution protection: docs/kernel.md says how to build it"};
    return {"CAP_SYS_ADMIN: run the daemon as root, outside of any user namespace"};
}

u64 kernel_grace_period_ms() {
    std::ifstream file(std::string(SETTINGS) + "/grace_period_ms");
    u64 ms = 0;
    return file >> ms ? ms : 0;
}

Outcome<int> make_kernel_context(int context_fd, int image_fd, const ContextHeader& header) {
    const long made = aep_ops(AEP_INIT, 0);  // no data but ours
    if (made < 0) return Failure{failed("making a context", made)};
    const int fd = static_cast<int>(made);
    std::string error = map_image(fd, image_fd);
    if (error.empty()) error = map_data(fd, context_fd, header);
    if (error.empty()) return fd;
    close(fd);
    return Failure{error};
}

Outcome<int> kernel_context_of(int pidfd, const ContextHeader& header) {
    const long fd = aep_ops(AEP_CONTEXT, static_cast<u64>(pidfd));
    if (fd < 0) return Failure{failed("the context of a member", fd)};
    if (sees(pidfd, header)) return static_cast<int>(fd);
    close(static_cast<int>(fd));
    return Failure{"kernel: the process is a member of another context"};
}

std::string join_kernel_context(int kernel_context, int pidfd, const ContextHeader& header) {
    const long joined =
        aep_ops(AEP_JOIN, static_cast<u64>(kernel_context), static_cast<u64>(pidfd));
    if (joined == 0) return "";
    if (joined != -EBUSY) return failed("making the process a member", joined);
    // A daemon before this one let it in, or its parent was a member.
    if (auto found = kernel_context_of(pidfd, header)) {
        close(*found);
        return "";
    }
    return "kernel: the process is a member of another context, or has mapped something where the "
           "context belongs";
}

}  // namespace aep
