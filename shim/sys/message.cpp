// Purpose: see message.hpp.
// Who calls it: shim/ and preload/.
// Crash rule: a line is one write(2); no state is kept between lines.
#include "shim/sys/message.hpp"

#include <errno.h>
#include <signal.h>

#include "shim/sys/decimal.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

struct ErrnoName {
    int number;
    const char* name;
};

/// The errors that our own system calls can meet, and what to do where that is the same wherever they are met.
constexpr ErrnoName ERRNO_NAMES[] = {
    {EPERM, "EPERM (operation not permitted)"},
    {ENOENT, "ENOENT (no such file or directory)"},
    {EINTR, "EINTR (interrupted)"},
    {EIO, "EIO (input/output error)"},
    {EBADF, "EBADF (bad file descriptor)"},
    {EAGAIN, "EAGAIN (try again, or raise ulimit -u)"},
    {ENOMEM, "ENOMEM (out of memory or address space: free some, or raise ulimit -v)"},
    {EACCES, "EACCES (permission denied)"},
    {EFAULT, "EFAULT (bad address)"},
    {EBUSY, "EBUSY (busy)"},
    {EEXIST, "EEXIST (exists already)"},
    {EXDEV, "EXDEV (other file system)"},
    {ENODEV, "ENODEV (no such device)"},
    {ENOTDIR, "ENOTDIR (not a directory)"},
    {EISDIR, "EISDIR (is a directory)"},
    {EINVAL, "EINVAL (invalid argument)"},
    {ENFILE, "ENFILE (too many open files in the system: raise fs.file-max)"},
    {EMFILE, "EMFILE (too many open files in the process: raise ulimit -n)"},
    {EFBIG, "EFBIG (file too large: raise ulimit -f)"},
    {ENOSPC, "ENOSPC (no space left on the file system: free some)"},
    {EROFS, "EROFS (read-only file system: name another place)"},
    {ENAMETOOLONG, "ENAMETOOLONG (file name too long)"},
    {ENOLCK, "ENOLCK (no locks available)"},
    {ENOSYS, "ENOSYS (not in this kernel: aep doctor says what is)"},
    {ELOOP, "ELOOP (symbolic link)"},
    {EOVERFLOW, "EOVERFLOW (value too large)"},
    {EOPNOTSUPP, "EOPNOTSUPP (not supported)"},
    {ECONNREFUSED, "ECONNREFUSED (connection refused)"},
    {ECONNRESET, "ECONNRESET (connection reset)"},
    {ETIMEDOUT, "ETIMEDOUT (timed out)"},
    {EDQUOT, "EDQUOT (quota exceeded: free some)"},
};

}  // namespace

MessageLine::MessageLine() { add("aep: "); }

void MessageLine::add(char c) {
    // One byte is kept for the newline and one for the terminating zero.
    if (length_ < sizeof text_ - 2) {
        text_[length_++] = c;
        text_[length_] = '\0';
    }
}

void MessageLine::add(const char* text) {
    for (; *text != '\0'; ++text) add(*text);
}

void MessageLine::add_decimal(u64 value) {
    each_digit(
        value, [this](char digit) { add(digit); });
}

void MessageLine::add(Hex hex) {
    add("0x");
    int shift = 60;
    while (shift > 0 && (hex.value >> shift) == 0) shift -= 4;
    for (; shift >= 0; shift -= 4) add("0123456789abcdef"[(hex.value >> shift) & 15]);
}

const char* errno_words(long error) {
    for (const ErrnoName& known : ERRNO_NAMES)
        if (known.number == (error < 0 ? -error : error)) return known.name;
    return nullptr;
}

void MessageLine::add(Errno error) {
    if (const char* const words = errno_words(error.value); words != nullptr) return add(words);
    add("errno ");
    add(error.value < 0 ? -error.value : error.value);
}

void MessageLine::add(Bytes bytes) {
    constexpr const char* UNITS[] = {" B", " KiB", " MiB", " GiB", " TiB"};
    u64 value = bytes.value;
    usize unit = 0;
    while (unit < 4 && value != 0 && value % 1024 == 0) {
        value /= 1024;
        ++unit;
    }
    add_decimal(value);
    add(UNITS[unit]);
}

void MessageLine::send() {
    text_[length_] = '\n';
    const char* from = text_;
    usize left = length_ + 1;
    while (left != 0) {
        const long written = sys::write(2, from, left);
        if (written == -EINTR) continue;
        if (written <= 0) return;  // fd 2 closed or full: nobody to tell
        from += written;
        left -= static_cast<usize>(written);
    }
}

void abort_process() {
    // As abort(3): the signal once with the program's own handler, then with the default action.
    u64 abort_only = u64{1} << (SIGABRT - 1);
    sys::call(__NR_rt_sigprocmask, SIG_UNBLOCK, sys::word(&abort_only), 0, sizeof abort_only);
    sys::tgkill(sys::getpid(), sys::gettid(), SIGABRT);
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)();
        u64 mask;
    } action = {SIG_DFL, 0, nullptr, 0};
    sys::call(__NR_rt_sigaction, SIGABRT, sys::word(&action), 0, sizeof action.mask);
    sys::call(__NR_rt_sigprocmask, SIG_UNBLOCK, sys::word(&abort_only), 0, sizeof abort_only);
    sys::tgkill(sys::getpid(), sys::gettid(), SIGABRT);
    __builtin_trap();
}

}  // namespace aep
