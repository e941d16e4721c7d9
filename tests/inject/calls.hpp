// Purpose: which system calls the injector lets fail, and how: the errors that a call can really return.
// Who calls it: tracer.cpp.
// Crash rule: constants.
#pragma once

#include <errno.h>
#include <sys/syscall.h>

#include <array>
#include <span>

namespace aep::inject {

/// One system call. `done`: the kernel does it although it says that it failed (close gives the descriptor back).
/// `own`: only where the product itself makes it, for libc ends a program that it says an error to.
struct Failing {
    long number;
    const char* name;
    std::array<int, 4> errors;  // ends with 0
    bool done = false;
    bool own = false;
};

/// Every call that can fail in a sound program. Those that are not here cannot: getpid, rt_sigprocmask, exit_group ...;
/// brk is libc's own, whose malloc then uses mmap.
inline constexpr Failing FAILING[] = {
    // memory
    {SYS_mmap, "mmap", {ENOMEM, EAGAIN, EPERM, EEXIST}},
    {SYS_munmap, "munmap", {ENOMEM}},
    {SYS_mprotect, "mprotect", {ENOMEM, EACCES}},
    {SYS_mremap, "mremap", {ENOMEM, EAGAIN}},
    {SYS_madvise, "madvise", {ENOMEM, EAGAIN, EINVAL, EIO}},
    {SYS_mincore, "mincore", {EAGAIN, ENOMEM}},
    {SYS_munlock, "munlock", {ENOMEM}},
    {SYS_msync, "msync", {EIO}},
    {SYS_memfd_create, "memfd_create", {EMFILE, ENFILE, ENOMEM}},
    // files
    {SYS_openat, "openat", {EMFILE, ENFILE, EACCES, ENOMEM}},
    {SYS_open, "open", {EMFILE, ENFILE, EACCES, ENOMEM}},
    {SYS_close, "close", {EIO, EINTR}, true},
    {SYS_read, "read", {EIO, EINTR, ENOMEM}},
    {SYS_pread64, "pread64", {EIO, EINTR}},
    {SYS_write, "write", {EINTR, EIO, ENOSPC}},
    {SYS_pwrite64, "pwrite64", {EIO, ENOSPC, EINTR}},
    {SYS_stat, "stat", {EACCES, ENOMEM}},
    {SYS_lstat, "lstat", {EACCES, ENOMEM}},
    {SYS_fstat, "fstat", {EIO}},
    {SYS_newfstatat, "newfstatat", {EACCES, ENOMEM}},
    {SYS_statx, "statx", {EACCES, ENOMEM}},
    {SYS_fstatfs, "fstatfs", {EIO}},
    {SYS_statfs, "statfs", {EACCES, EIO}},
    {SYS_fchmod, "fchmod", {EPERM, EIO}},
    {SYS_fchown, "fchown", {EPERM}},
    {SYS_ftruncate, "ftruncate", {ENOSPC, EINTR, EIO}},
    {SYS_fallocate, "fallocate", {ENOSPC, EINTR, ENOMEM, EOPNOTSUPP}},
    {SYS_fsync, "fsync", {EIO, ENOSPC}},
    {SYS_fcntl, "fcntl", {ENOLCK, EMFILE, EAGAIN}},
    {SYS_flock, "flock", {EWOULDBLOCK, ENOLCK, EINTR}},
    {SYS_linkat, "linkat", {EEXIST, ENOSPC, EPERM}},
    {SYS_symlink, "symlink", {ENOSPC, EACCES}},
    {SYS_unlink, "unlink", {EACCES, EIO}},
    {SYS_unlinkat, "unlinkat", {EACCES, EIO}},
    {SYS_rename, "rename", {ENOSPC, EACCES}},
    {SYS_mkdir, "mkdir", {ENOSPC, EACCES}},
    {SYS_rmdir, "rmdir", {EBUSY}},
    {SYS_readlink, "readlink", {EACCES}},
    {SYS_readlinkat, "readlinkat", {EACCES}},
    {SYS_getdents64, "getdents64", {ENOMEM, EIO}},
    {SYS_getcwd, "getcwd", {ENOENT}},
    {SYS_access, "access", {EACCES}},
    {SYS_faccessat, "faccessat", {EACCES}},
    {SYS_dup, "dup", {EMFILE}},
    {SYS_ioctl, "ioctl", {ENOTTY}},
    {SYS_pipe2, "pipe2", {EMFILE, ENFILE}},
    {SYS_eventfd2, "eventfd2", {EMFILE, ENFILE, ENOMEM}},
    {SYS_signalfd4, "signalfd4", {EMFILE, ENFILE, ENOMEM}},
    {SYS_timerfd_create, "timerfd_create", {EMFILE, ENFILE, ENOMEM}},
    {SYS_timerfd_settime, "timerfd_settime", {ECANCELED}},
    {SYS_epoll_create1, "epoll_create1", {EMFILE, ENOMEM}},
    {SYS_epoll_ctl, "epoll_ctl", {ENOMEM, ENOSPC}},
    {SYS_epoll_wait, "epoll_wait", {EINTR}},
    {SYS_poll, "poll", {EINTR, ENOMEM}},
    {SYS_ppoll, "ppoll", {EINTR, ENOMEM}},
    // sockets
    {SYS_socket, "socket", {EMFILE, ENFILE, ENOMEM}},
    {SYS_socketpair, "socketpair", {EMFILE, ENFILE}},
    {SYS_bind, "bind", {EADDRINUSE, ENOSPC}},
    {SYS_listen, "listen", {EADDRINUSE}},
    {SYS_connect, "connect", {ECONNREFUSED, EAGAIN, EINTR}},
    {SYS_accept4, "accept4", {EMFILE, ECONNABORTED, EINTR, ENOMEM}},
    {SYS_sendmsg, "sendmsg", {EPIPE, ECONNRESET, ENOBUFS, EINTR}},
    {SYS_recvmsg, "recvmsg", {ECONNRESET, EINTR, ENOMEM}},
    {SYS_sendto, "sendto", {EPIPE, ENOBUFS, EINTR}},
    {SYS_recvfrom, "recvfrom", {ECONNRESET, EINTR}},
    {SYS_setsockopt, "setsockopt", {ENOMEM}},
    {SYS_getsockopt, "getsockopt", {ENOBUFS}},
    // processes
    {SYS_clone, "clone", {EAGAIN, ENOMEM}},
    {SYS_clone3, "clone3", {EAGAIN, ENOMEM}},
    {SYS_fork, "fork", {EAGAIN, ENOMEM}},
    {SYS_vfork, "vfork", {EAGAIN, ENOMEM}},
    {SYS_execve, "execve", {ENOMEM, EACCES}},
    {SYS_pidfd_open, "pidfd_open", {EMFILE, ENFILE, ESRCH}},
    {SYS_pidfd_send_signal, "pidfd_send_signal", {EPERM}},
    {SYS_kill, "kill", {EPERM}},
    {SYS_prctl, "prctl", {EINVAL, EPERM}},
    {SYS_capset, "capset", {EPERM}},
    {SYS_getrandom, "getrandom", {ENOSYS, EINTR}},
    {SYS_membarrier, "membarrier", {ENOSYS, EPERM}},
    {SYS_futex, "futex", {EINTR, EAGAIN}, false, true},
    {SYS_nanosleep, "nanosleep", {EINTR}},
    {SYS_clock_nanosleep, "clock_nanosleep", {EINTR}},
    {SYS_sched_getaffinity, "sched_getaffinity", {EINVAL}},
    {SYS_prlimit64, "prlimit64", {EPERM}},
    {SYS_bpf, "bpf", {EPERM, ENOMEM}},
    {SYS_perf_event_open, "perf_event_open", {EACCES, EMFILE}},
    {SYS_wait4, "wait4", {EINTR}},
    {SYS_waitid, "waitid", {EINTR}},
};

/// The entry of a call, or null.
inline const Failing* failing(long number) {
    for (const Failing& one : FAILING)
        if (one.number == number) return &one;
    return nullptr;
}

}  // namespace aep::inject
