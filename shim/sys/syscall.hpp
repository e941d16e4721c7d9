// Purpose: raw system calls, inlined: no errno, no TLS, no PLT, nothing another library can
//          interpose. They work before any constructor has run and inside a signal handler.
// Who calls it: everything in shim/ that talks to the kernel.
// Crash rule: no state.
//
// Every function returns the kernel's own value: at least zero on success, -errno on failure.
#pragma once

#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "dsm-core/base/types.hpp"

namespace aep::sys {

#if !defined(__x86_64__)
#error "raw system calls are written for x86-64"
#endif

/// One system call with up to six arguments.
inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) {
    long result = number;
    register long r10 asm("r10") = d;
    register long r8 asm("r8") = e;
    register long r9 asm("r9") = f;
    asm volatile("syscall"
                 : "+a"(result)
                 : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
}

/// True for a value that stands for an error (-4095 .. -1).
constexpr bool failed(long value) { return static_cast<unsigned long>(value) > -4096UL; }

/// What `call` says once no signal has interrupted it.
template <class Call>
long uninterrupted(Call call) {
    long result;
    do {
        result = call();
    } while (result == -EINTR);
    return result;
}

template <class T>
long word(T* pointer) {
    return reinterpret_cast<long>(pointer);
}

// ---- memory

inline long mmap(uptr address, usize bytes, int protection, int flags, int fd = -1, u64 at = 0) {
    return call(__NR_mmap, static_cast<long>(address), static_cast<long>(bytes), protection, flags,
                fd, static_cast<long>(at));
}
inline long munmap(uptr address, usize bytes) {
    return call(__NR_munmap, static_cast<long>(address), static_cast<long>(bytes));
}
/// mmap at exactly that address, where nothing may be yet. 0 or -errno; -EEXIST: something is
/// there.
inline long map_exactly(uptr address, usize bytes, int protection, int flags, int fd = -1,
                        u64 offset = 0) {
    const long at = mmap(address, bytes, protection, flags | MAP_FIXED_NOREPLACE, fd, offset);
    if (at == static_cast<long>(address)) return 0;
    if (failed(at)) return at;
    // A kernel before 4.17, or an emulator, takes the address for a hint.
    munmap(static_cast<uptr>(at), bytes);
    return -EEXIST;
}
inline long mremap(uptr from, usize old_bytes, usize new_bytes, int flags, uptr to) {
    return call(__NR_mremap, static_cast<long>(from), static_cast<long>(old_bytes),
                static_cast<long>(new_bytes), flags, static_cast<long>(to));
}
inline long mprotect(uptr address, usize bytes, int protection) {
    return call(__NR_mprotect, static_cast<long>(address), static_cast<long>(bytes), protection);
}
inline long madvise(uptr address, usize bytes, int advice) {
    return call(__NR_madvise, static_cast<long>(address), static_cast<long>(bytes), advice);
}
/// Keeps a range out of core dumps: a reader that is no access stops would give memory to every
/// hole of a file.
inline long keep_from_dumps(uptr address, usize bytes) {
    return madvise(address, bytes, MADV_DONTDUMP);
}
inline long mincore(uptr address, usize bytes, u8* present) {
    return call(__NR_mincore, static_cast<long>(address), static_cast<long>(bytes), word(present));
}

// ---- files

inline long openat(int directory, const char* path, int flags, unsigned mode = 0) {
    return call(__NR_openat, directory, word(path), flags, mode);
}
inline long open(const char* path, int flags, unsigned mode = 0) {
    return openat(AT_FDCWD, path, flags, mode);
}
inline long close(int fd) { return call(__NR_close, fd); }
inline long read(int fd, void* to, usize bytes) {
    return call(__NR_read, fd, word(to), static_cast<long>(bytes));
}
inline long pread(int fd, void* to, usize bytes, u64 at) {
    return call(__NR_pread64, fd, word(to), static_cast<long>(bytes), static_cast<long>(at));
}
inline long write(int fd, const void* from, usize bytes) {
    return call(__NR_write, fd, word(from), static_cast<long>(bytes));
}
inline long stat(const char* path, struct stat* to) {
    return call(__NR_stat, word(path), word(to));
}
/// Of a symbolic link itself, not of what it leads to.
inline long lstat(const char* path, struct stat* to) {
    return call(__NR_lstat, word(path), word(to));
}
inline long fstat(int fd, struct stat* to) { return call(__NR_fstat, fd, word(to)); }
inline long fchmod(int fd, unsigned mode) { return call(__NR_fchmod, fd, mode); }
inline long ftruncate(int fd, u64 bytes) {
    return call(__NR_ftruncate, fd, static_cast<long>(bytes));
}
inline long fallocate(int fd, int mode, u64 at, u64 bytes) {
    return call(__NR_fallocate, fd, mode, static_cast<long>(at), static_cast<long>(bytes));
}
inline long fstatfs(int fd, void* to) { return call(__NR_fstatfs, fd, word(to)); }
inline long fcntl(int fd, int command, void* argument) {
    return call(__NR_fcntl, fd, command, word(argument));
}
inline long linkat(int from_dir, const char* from, int to_dir, const char* to, int flags) {
    return call(__NR_linkat, from_dir, word(from), to_dir, word(to), flags);
}
inline long unlink(const char* path) { return call(__NR_unlink, word(path)); }
inline long getcwd(char* to, usize bytes) {
    return call(__NR_getcwd, word(to), static_cast<long>(bytes));
}

// ---- the process

inline int getpid() { return static_cast<int>(call(__NR_getpid)); }
inline int gettid() { return static_cast<int>(call(__NR_gettid)); }
inline unsigned geteuid() { return static_cast<unsigned>(call(__NR_geteuid)); }
inline long getrandom(void* to, usize bytes, unsigned flags) {
    return call(__NR_getrandom, word(to), static_cast<long>(bytes), flags);
}
inline long tgkill(int process, int thread, int signal) {
    return call(__NR_tgkill, process, thread, signal);
}

}  // namespace aep::sys
