// Purpose: makes one system call fail in this (child) process, as an older kernel or a lesser
//          file system would; or hands it to the test, which answers it.
// Who calls it: the unit tests of shim/.
// Crash rule: the filter ends with the process.
#pragma once

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <ucontext.h>

#include <cstddef>

namespace aep::test {

/// From now on system call `number` ends with `verdict`, one of seccomp's, where the low 32 bits of its argument `argument`
/// contain all of `bits`.
inline void judge_call(unsigned number, unsigned argument, unsigned bits, unsigned verdict) {
    const unsigned low = static_cast<unsigned>(offsetof(seccomp_data, args)) + 8 * argument;
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, bits, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, verdict),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{sizeof program / sizeof program[0], program};
    ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ASSERT_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

/// It fails with `error`.
inline void refuse_call(unsigned number, unsigned argument, unsigned bits, unsigned error) {
    judge_call(number, argument, bits, SECCOMP_RET_ERRNO | error);
}

/// Its result is answer(visit), which is called in its place; visits count from 1.
inline void answer_call(unsigned number, unsigned argument, unsigned bits, long (*answer)(int)) {
    static long (*answers)(int);
    static int visits;
    answers = answer;
    visits = 0;
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = [](int, siginfo_t*, void* context) {
        static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = answers(++visits);
    };
    ASSERT_EQ(sigaction(SIGSYS, &action, nullptr), 0);
    judge_call(number, argument, bits, SECCOMP_RET_TRAP);
}

}  // namespace aep::test
