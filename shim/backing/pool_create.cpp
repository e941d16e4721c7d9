// Purpose: see pool_create.hpp.
// Who calls it: pool_file.cpp.
// Crash rule: the file is written while it has no name (O_TMPFILE), then linked: it is there
//             whole or not at all. Where the file system has no O_TMPFILE it is written as
//             PATH.new.* and renamed.
#include "shim/backing/pool_create.hpp"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "dsm-core/pool/crash_points.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/backing/pool_device.hpp"
#include "shim/backing/populate.hpp"
#include "shim/sys/careful.hpp"
#include "shim/sys/decimal.hpp"
#include "shim/sys/files.hpp"
#include "shim/sys/mapping.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

void say(const char* path, const char* what, long error) {
    message("pool ", path, ": cannot create it: ", what, ": ", Errno{error});
}

/// The directory part of `path` ("." if it has none), as openat needs it.
void directory_of(const char* path, char (&directory)[MAX_PATH]) {
    usize end = __builtin_strlen(path);
    while (end > 1 && path[end - 1] != '/') --end;
    __builtin_memcpy(directory, path, end);
    directory[end] = '\0';
}

/// Ending a process by SIGXFSZ for a pool would be rude: asks first.
bool file_size_allowed(const char* path, usize bytes) {
    rlimit limit{};
    // A sandbox that does not let us ask is no limit.
    const long asked = sys::call(__NR_prlimit64, 0, RLIMIT_FSIZE, 0, sys::word(&limit));
    if (sys::failed(asked) || limit.rlim_cur >= bytes) return true;
    message("pool ", path, ": cannot create it: its size ", Bytes{bytes},
            " is above this process's file size limit of ", limit.rlim_cur,
            " bytes: raise ulimit -f or lower AEP_POOL_SIZE");
    return false;
}

/// Writes superblock and empty tables into a file that has its full size, all of it backed by
/// memory. False after a message.
bool write_tables(const char* path, int fd, const PoolPlan& plan) {
    u8 uuid[16];
    const long got = sys::uninterrupted([&] { return sys::getrandom(uuid, sizeof uuid, 0); });
    if (got != static_cast<long>(sizeof uuid)) {
        say(path, "getrandom", sys::failed(got) ? got : -EIO);
        return false;
    }
    Superblock made;
    if (!plan_superblock(made, path, plan, uuid)) return false;
    const usize mapped = made.chunks_offset;
    const long at = sys::mmap(0, mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (sys::failed(at)) {
        say(path, "mmap", at);
        return false;
    }
    const uptr base = static_cast<uptr>(at);
    const bool enough = populate(base, round_up(tables_end(made), OS_PAGE_SIZE));
    if (enough) {
        __builtin_memcpy(reinterpret_cast<void*>(base), &made, sizeof made);
    } else {
        message("pool ", path, ": cannot create it: no space for its tables (",
                round_up(tables_end(made), OS_PAGE_SIZE),
                " bytes) on the file system: free some, or choose another AEP_POOL");
    }
    sys::munmap(base, mapped);
    return enough;
}

/// What the pool will need of the file system: holes and locks. False after a message.
bool file_system_fits(const char* path, int fd, usize bytes) {
    constexpr int PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const long punched = sys::uninterrupted(
        [&] { return sys::fallocate(fd, PUNCH, bytes - CHUNK_SIZE, CHUNK_SIZE); });
    if (sys::failed(punched)) {
        const bool lacks_it = punched == -EOPNOTSUPP || punched == -ENOSYS;
        message("pool ", path,
                ": cannot create it: the file system cannot punch holes: ", Errno{punched},
                lacks_it ? ": use tmpfs, hugetlbfs, ext4 or xfs" : "");
        return false;
    }
    const NodeLock tried = try_node_lock(fd, 0);
    if (tried != NodeLock::taken) {
        message("pool ", path,
                ": cannot create it: the file system has no file locks of open file "
                "descriptions: use tmpfs, hugetlbfs, ext4 or xfs");
        return false;
    }
    release_node_lock(fd, 0);
    return true;
}

/// All of a new file's memory is there, and holds zeros that outlive a power cut: of what is mapped past the page cache
/// nothing may have to be found, or written down by the file system, when it is touched. False after a message.
bool make_all_present(const char* path, int fd, usize bytes) {
    const long got = sys::uninterrupted([&] { return sys::fallocate(fd, 0, 0, bytes); });
    if (sys::failed(got)) {
        say(path, "all of its memory at once", got);
        return false;
    }
    for (usize at = 0; at < bytes; at += GiB) {
        const Mapping part(fd, at, bytes - at < GiB ? bytes - at : GiB, PROT_READ | PROT_WRITE);
        if (part.failed() || !clear_carefully(part.at(), part.bytes())) {
            say(path, "writing zeros", part.failed() ? part.error() : -EIO);
            return false;
        }
    }
    return true;
}

/// After a power cut a file is what it is now, with the name that it has now: file systems with a journal write both down at once.
void write_down(int fd) { sys::call(__NR_fsync, fd); }

/// Fills the open, nameless or temporary file. False after a message.
bool fill(const char* path, int fd, const PoolPlan& plan) {
    const usize bytes = plan.bytes;
    const bool dax = is_dax_file(fd);
    if (dax && !says_coherence(path, plan)) return false;
    long result = sys::fchmod(fd, 0600);
    if (sys::failed(result)) {
        say(path, "fchmod", result);
        return false;
    }
    result = sys::uninterrupted([&] { return sys::ftruncate(fd, bytes); });
    if (sys::failed(result)) {
        message("pool ", path, ": cannot create it: cannot make it ", Bytes{bytes},
                " long: ", Errno{result}, ": lower AEP_POOL_SIZE");
        return false;
    }
    const bool filled = dax ? make_all_present(path, fd, bytes) &&
                                  create_on_device(path, fd, {bytes, OS_PAGE_SIZE, true}, plan)
                            : write_tables(path, fd, plan) && file_system_fits(path, fd, bytes);
    if (!filled) return false;
    write_down(fd);  // the name must not lead to an empty file
    AEP_POOL_CRASH_POINT("create: header written");
    return true;
}

/// Decimal digits of `fd` after "/proc/self/fd/".
struct ProcPath {
    char text[40] = "/proc/self/fd/";
    explicit ProcPath(int fd) {
        usize at = __builtin_strlen(text);
        each_digit(static_cast<u64>(fd), [&](char digit) { text[at++] = digit; });
        text[at] = '\0';
    }
};

enum class Created { yes, no, not_possible_here };

Created create_nameless(const char* path, const char* directory, const PoolPlan& plan) {
    const long opened = sys::open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (opened == -EOPNOTSUPP || opened == -EISDIR || opened == -EINVAL || opened == -ENOENT)
        return Created::not_possible_here;
    if (sys::failed(opened)) {
        say(path, directory, opened);
        return Created::no;
    }
    const int fd = away_from_stdio(static_cast<int>(opened));
    if (fd < 0) {
        say(path, "open", fd);
        return Created::no;
    }
    AEP_POOL_CRASH_POINT("create: file made");
    Created created = Created::no;
    if (fill(path, fd, plan)) {
        const ProcPath name(fd);
        long linked = sys::linkat(AT_FDCWD, name.text, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
        if (linked == -ENOENT)  // no /proc
            linked = sys::linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH);
        if (!sys::failed(linked) || linked == -EEXIST)
            created = Created::yes;
        else
            created = Created::not_possible_here;
        write_down(fd);
    }
    sys::close(fd);
    return created;
}

/// PATH.new.<16 hex digits>
void temporary_name(const char* path, char (&name)[MAX_PATH]) {
    u64 random = 0;
    sys::getrandom(&random, sizeof random, 0);
    usize at = __builtin_strlen(path);
    __builtin_memcpy(name, path, at);
    for (const char* c = ".new."; *c != '\0'; ++c) name[at++] = *c;
    for (int shift = 60; shift >= 0; shift -= 4)
        name[at++] = "0123456789abcdef"[(random >> shift) & 15];
    name[at] = '\0';
}

bool create_named(const char* path, const PoolPlan& plan) {
    char temporary[MAX_PATH];
    temporary_name(path, temporary);
    const long opened =
        sys::open(temporary, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC, 0600);
    if (sys::failed(opened)) {
        say(path, temporary, opened);
        return false;
    }
    const int fd = away_from_stdio(static_cast<int>(opened));
    bool created = fd >= 0 && fill(path, fd, plan);
    if (created) {
        long named = sys::call(__NR_renameat2, AT_FDCWD, sys::word(temporary), AT_FDCWD,
                               sys::word(path), RENAME_NOREPLACE);
        if (named == -EINVAL || named == -ENOSYS)
            named = sys::linkat(AT_FDCWD, temporary, AT_FDCWD, path, 0);
        if (sys::failed(named) && named != -EEXIST) {
            say(path, "rename", named);
            created = false;
        }
        write_down(fd);
    }
    sys::unlink(temporary);  // gone already if it was renamed
    if (fd >= 0) sys::close(fd);
    return created;
}

}  // namespace

bool create_pool_file(const char* path, const PoolPlan& wanted) {
    PoolPlan plan = wanted;
    const usize bytes = plan.bytes == 0 ? DEFAULT_POOL_BYTES : plan.bytes;
    if (bytes < MIN_POOL_BYTES || bytes > MAX_POOL_BYTES) {
        message("pool ", path, ": cannot create it: its size is ", Bytes{bytes}, ", expected ",
                Bytes{MIN_POOL_BYTES}, " to ", Bytes{MAX_POOL_BYTES}, ": change AEP_POOL_SIZE");
        return false;
    }
    if (plan.room > MAX_POOL_BYTES) {
        message("pool ", path, ": cannot create it: the room that it may grow to is ",
                Bytes{plan.room}, ", expected at most ", Bytes{MAX_POOL_BYTES});
        return false;
    }
    plan.bytes = round_down(bytes, CHUNK_SIZE);
    if (!file_size_allowed(path, plan.bytes)) return false;
    char directory[MAX_PATH];
    directory_of(path, directory);
    struct stat above;
    if (const long found = sys::stat(directory, &above); sys::failed(found)) {
        message("pool ", path, ": cannot create it: directory ", directory, ": ", Errno{found},
                found == -ENOENT ? ": make it first, or name another" : "");
        return false;
    }
    const Created created = create_nameless(path, directory, plan);
    if (created == Created::no ||
        (created == Created::not_possible_here && !create_named(path, plan)))
        return false;
    AEP_POOL_CRASH_POINT("create: named");
    return true;
}

}  // namespace aep
