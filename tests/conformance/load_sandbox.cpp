// A program that forbids itself to open anything before it allocates for the first time: it is on
// the pool, or in the context, all the same. Linked without a C++ runtime, whose initialisation
// allocates. Run by CTest through run.sh. Crash rule: check.hpp.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/conformance/check.hpp"

namespace {

/// Opening, connecting and what else needs a name fails with EPERM from here on.
bool enter_sandbox() {
    constexpr unsigned FORBIDDEN[] = {SYS_open,    SYS_openat, SYS_openat2, SYS_socket,
                                      SYS_connect, SYS_execve, SYS_unlink,  SYS_memfd_create,
                                      SYS_ptrace,  SYS_setuid, SYS_mount};
    constexpr unsigned count = sizeof FORBIDDEN / sizeof *FORBIDDEN;
    struct sock_filter code[count + 3];
    unsigned at = 0;
    code[at++] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < count; ++i) {
        const auto to_end = static_cast<unsigned char>(count - i);
        code[at++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FORBIDDEN[i], to_end, 0);
    }
    code[at++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[at++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    const struct sock_fprog program = {static_cast<unsigned short>(at), code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace

int main() {
    check::begin();
    CANNOT_RUN_UNLESS(enter_sandbox(), "no seccomp filters");
    check::begin_case("in the sandbox");
    void* blocks[200];
    for (size_t i = 0; i < 200; ++i) {
        blocks[i] = malloc(i * 100 + 1);
        REQUIRE(blocks[i] != nullptr);
        check::fill(blocks[i], i * 100 + 1, i);
    }
    void* large = malloc(20 << 20);
    REQUIRE(large != nullptr);
    memset(large, 1, 20 << 20);
    free(large);
    CHECK_CHILD(check::run_in_child([&] {
        CHECK_PATTERN(blocks[150], 15001, 150);
        free(check::opaque(malloc(100)));
    }));
    for (size_t i = 0; i < 200; ++i) {
        CHECK_PATTERN(blocks[i], i * 100 + 1, i);
        free(blocks[i]);
    }
    return check::result();
}
