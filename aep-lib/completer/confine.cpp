// Purpose: see confine.hpp.
// Who calls it: see confine.hpp.
// Crash rule: see confine.hpp.
#include "aep-lib/completer/confine.hpp"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/securebits.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>

#include "aep-lib/completer/complete.hpp"

namespace aep {
namespace {

struct Capabilities {
    __user_cap_data_struct part[2]{};

    bool read() {
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        return syscall(SYS_capget, &header, part) == 0;
    }
    bool write() const {
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        return syscall(SYS_capset, &header, part) == 0;
    }
    bool has(unsigned which) const { return (part[which / 32].effective >> which % 32 & 1) != 0; }
    bool none() const {
        return (part[0].effective | part[0].permitted | part[0].inheritable | part[1].effective |
                part[1].permitted | part[1].inheritable) == 0;
    }
};

/// The bounding set, and the rules by which root would get capabilities anyhow.
bool empty_bounding_set() {
    constexpr unsigned long NEVER_AGAIN = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
                                          SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
                                          SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                                          SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    if (prctl(PR_SET_SECUREBITS, NEVER_AGAIN, 0, 0, 0) != 0) return false;
    for (unsigned which = 0; prctl(PR_CAPBSET_READ, which, 0, 0, 0) >= 0; ++which)
        if (prctl(PR_CAPBSET_DROP, which, 0, 0, 0) != 0) return false;
    return true;
}

bool is_all(uid_t user) {
    uid_t real, effective, saved;
    return getresuid(&real, &effective, &saved) == 0 && real == user && effective == user &&
           saved == user;
}

using Filter = std::unique_ptr<void, void (*)(scmp_filter_ctx)>;

template <class... Conditions>
int allow(const Filter& filter, int number, Conditions... conditions) {
    return seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, number, sizeof...(conditions),
                            conditions...);
}

int allow_futex(const Filter& filter, int operation) {
    constexpr scmp_datum_t FLAGS = FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME;
    return allow(filter, SCMP_SYS(futex),
                 SCMP_A1(SCMP_CMP_MASKED_EQ, ~FLAGS, static_cast<scmp_datum_t>(operation)));
}

/// All that is allowed. The first error, or 0.
int fill(const Filter& filter, int socket) {
    const auto own = static_cast<scmp_datum_t>(getpid());
    const auto end = static_cast<scmp_datum_t>(socket);
    int error = 0;
    const auto must = [&error](int result) {
        if (error == 0) error = result;
    };
    for (const int operation : {FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET})
        must(allow_futex(filter, operation));
    must(
        allow(filter, SCMP_SYS(membarrier), SCMP_A0(SCMP_CMP_EQ, MEMBARRIER_CMD_GLOBAL_EXPEDITED)));
    for (const int number : {GO_SIGNAL, LEAVE_SIGNAL}) {
        must(allow(filter, SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, own),
                   SCMP_A2(SCMP_CMP_EQ, static_cast<scmp_datum_t>(number))));
    }
    must(allow(filter, SCMP_SYS(rt_sigreturn)));
    // Without any address.
    must(allow(filter, SCMP_SYS(sendto), SCMP_A0(SCMP_CMP_EQ, end), SCMP_A4(SCMP_CMP_EQ, 0)));
    must(allow(filter, SCMP_SYS(recvfrom), SCMP_A0(SCMP_CMP_EQ, end), SCMP_A4(SCMP_CMP_EQ, 0)));
    must(allow(filter, SCMP_SYS(clock_nanosleep)));
    must(allow(filter, SCMP_SYS(restart_syscall)));  // of a sleep, when a stopped process goes on
    must(allow(filter, SCMP_SYS(exit_group)));
    return error;
}

}  // namespace

const char* give_up_privileges(CompleterUser user) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return "no new privileges";
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return "ambient ones";
    Capabilities capabilities;
    if (!capabilities.read()) return "reading capabilities";
    if (capabilities.has(CAP_SETPCAP) && !empty_bounding_set()) return "the bounding set";
    if (capabilities.has(CAP_SETGID) &&
        (setgroups(0, nullptr) != 0 || setresgid(user.gid, user.gid, user.gid) != 0))
        return "the tenant's group";
    if (capabilities.has(CAP_SETUID) && setresuid(user.uid, user.uid, user.uid) != 0)
        return "the tenant's user";
    if (!is_all(user.uid)) {
        errno = EPERM;
        return "the tenant's user";
    }
    if (!Capabilities{}.write() || !capabilities.read() || !capabilities.none())
        return "capabilities";
    // Becoming another user would have undone it.
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 ? nullptr : "ending with the daemon";
}

const char* forbid_tracing() {
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? nullptr : "forbidding to be traced";
}

const char* enter_filter(int socket) {
    const Filter filter(seccomp_init(SCMP_ACT_TRAP), seccomp_release);
    errno = ENOMEM;
    if (!filter) return "making a filter";
    int error = fill(filter, socket);
    // In every thread; and numbers of other ABIs are no way around it.
    if (error == 0) error = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
    if (error == 0) error = seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP);
    if (error == 0) error = seccomp_load(filter.get());
    errno = -error;
    return error == 0 ? nullptr : "entering the filter";
}

}  // namespace aep
