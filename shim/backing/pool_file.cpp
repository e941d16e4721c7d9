// Purpose: see pool_file.hpp. Opening and judging; creation is in pool_create.cpp.
// Who calls it: pool_backing.cpp, node_identity.cpp, reclaim.cpp.
// Crash rule: opening changes nothing.
#include "shim/backing/pool_file.hpp"

#include <errno.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "dsm-core/era/region.hpp"
#include "shim/backing/pool_create.hpp"
#include "shim/backing/pool_device.hpp"
#include "shim/backing/populate.hpp"
#include "shim/sys/careful.hpp"
#include "shim/sys/mapping.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/read_all.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

// O_NONBLOCK: a FIFO at the path is refused and not waited for.
constexpr int OPEN_FLAGS = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;

/// What kind of thing a file is, for a refusal.
const char* kind_of(unsigned mode) {
    switch (mode & S_IFMT) {
        case S_IFREG:
            return "a regular file";
        case S_IFDIR:
            return "a directory";
        case S_IFCHR:
            return "a character device";
        case S_IFBLK:
            return "a block device";
        case S_IFIFO:
            return "a FIFO";
        case S_IFSOCK:
            return "a socket";
        default:
            return "something else";
    }
}

/// An octal file mode.
struct Octal {
    char text[8];
    explicit Octal(unsigned mode) {
        usize at = 0;
        text[at++] = '0';
        for (int shift = 6; shift >= 0; shift -= 3)
            text[at++] = static_cast<char>('0' + ((mode >> shift) & 7));
        text[at] = '\0';
    }
};

/// Who may touch the file at all. False after a message.
bool acceptable(const char* path, const struct stat& st, bool dax) {
    if (!S_ISREG(st.st_mode) && !dax) {
        message("pool ", path, ": is ", kind_of(st.st_mode),
                ", expected a regular file or a DAX device: give AEP_POOL another path");
        return false;
    }
    if (!dax && is_device_path(path)) {
        message(
            "pool ", path,
            ": is a file where a DAX device is expected: no other machine has its memory; remove "
            "it, or put a pool of one machine into /dev/shm");
        return false;
    }
    if (st.st_uid != sys::geteuid()) {
        message("pool ", path, ": belongs to user ", st.st_uid, ", expected ", sys::geteuid(),
                ": each user needs a pool of their own");
        return false;
    }
    if ((st.st_mode & 077) != 0) {
        message(
            "pool ", path, ": mode is ", Octal(st.st_mode & 0777).text,
            ", expected 0600: others may have read or changed it; chmod 600 it if they did not");
        return false;
    }
    return true;
}

/// Whether the file, whose superblock is sound, has all of what the pool has grown to.
PoolFault verify_length(const PoolFile& file, int fd, u64 file_bytes) {
    u64 more = 0;
    u64 most = (file_bytes - file.superblock.file_bytes) / CHUNK_SIZE;
    if (!read_pool(file, fd, &more, sizeof more, SUPERBLOCK_BYTES) || more <= most) return {};
    // It may have grown since its length was taken: the memory is there before the word says so.
    struct stat st;
    if (!sys::failed(sys::fstat(fd, &st)) && static_cast<u64>(st.st_size) > file_bytes)
        most = (static_cast<u64>(st.st_size) - file.superblock.file_bytes) / CHUNK_SIZE;
    if (more <= most) return {};
    return {"grown chunks", SUPERBLOCK_BYTES, more, most,
            "the file was cut, or a program wrote over the pool's tables: move it away and let a "
            "new one be created"};
}

/// Reads and judges the superblock. False after a message.
bool read_superblock(PoolFile& file, int fd, u64 file_bytes) {
    Superblock& s = file.superblock;
    if (file_bytes < SUPERBLOCK_BYTES) {
        message("pool ", file.path, ": size is ", file_bytes, " bytes, expected at least ",
                MIN_POOL_BYTES, ": not a pool; move it away and let a new one be created");
        return false;
    }
    if (!read_pool(file, fd, &s, sizeof s, 0)) {
        message("pool ", file.path,
                ": cannot read its superblock: is it a pool? Move it away, or name another");
        return false;
    }
    PoolFault fault = verify_superblock(s, file_bytes);
    if (!fault) fault = era::verify_region(s);
    if (!fault) fault = verify_length(file, fd, file_bytes);
    if (fault) {
        message("pool ", file.path, ": ", fault.field, " at offset ", fault.offset, " is ",
                Hex{fault.found}, ", expected ", Hex{fault.expected}, ": ", fault.advice);
        return false;
    }
    return true;
}

/// Learns the size of the mapping's pages. False after a message.
bool read_file_system(PoolFile& file, int fd) {
    struct statfs fs {};
    const long result = sys::fstatfs(fd, &fs);
    if (sys::failed(result)) {
        message("pool ", file.path, ": fstatfs: ", Errno{result});
        return false;
    }
    const bool huge = static_cast<u64>(fs.f_type) == HUGETLBFS_MAGIC;
    file.memory = huge ? PoolMemory::huge_pages : PoolMemory::file;
    file.page_bytes = huge ? static_cast<usize>(fs.f_bsize) : OS_PAGE_SIZE;
    if (file.page_bytes > CHUNK_SIZE) {
        message("pool ", file.path, ": huge pages of ", Bytes{file.page_bytes},
                ", expected at most ", Bytes{CHUNK_SIZE}, ": mount hugetlbfs with pagesize=2M");
        return false;
    }
    return true;
}

/// The superblock again, against the one seen first: the same pool?
bool same_pool(const PoolFile& file, int fd) {
    struct stat st;
    u8 uuid[sizeof file.superblock.uuid];
    return !sys::failed(sys::fstat(fd, &st)) && st.st_dev == file.device &&
           st.st_ino == file.inode &&
           read_pool(file, fd, uuid, sizeof uuid, offsetof(Superblock, uuid)) &&
           __builtin_memcmp(uuid, file.superblock.uuid, sizeof uuid) == 0;
}

/// Whether what was opened may be a pool of `user`, and a new device is made one. False after a
/// message.
bool prepare_device(PoolFile& file, int fd, const PoolPlan& plan, PoolUser user) {
    DaxDevice device;
    struct stat st;
    if (sys::failed(sys::fstat(fd, &st)) || !find_dax_device(fd, st, device))
        return true;  // examine_pool_file() says what it is
    if (user == PoolUser::process) {
        message("pool ", file.path, ": is a DAX ", device.is_file ? "file" : "device",
                ", which other machines may use, too: start a context on it (aep up --node N "
                "--pool ",
                file.path, ") and let the program join that");
        return false;
    }
    return acceptable(file.path, st, true) && create_on_device(file.path, fd, device, plan);
}

/// Opens what is at the path, judges it. The descriptor; -ENOENT; or -1 after a message.
int open_existing(PoolFile& file, const PoolPlan& plan, PoolUser user) {
    const long opened = sys::open(file.path, OPEN_FLAGS);
    if (opened == -ENOENT) return -ENOENT;
    if (opened == -ELOOP) {
        message("pool ", file.path,
                ": is a symbolic link, expected a regular file: name the file itself");
        return -1;
    }
    if (sys::failed(opened)) {
        message("pool ", file.path, ": cannot open it: ", Errno{opened});
        return -1;
    }
    const int fd = away_from_stdio(static_cast<int>(opened));
    if (fd < 0) {
        message("pool ", file.path, ": cannot open it: ", Errno{fd});
        return -1;
    }
    if (prepare_device(file, fd, plan, user) && examine_pool_file(file, fd)) return fd;
    sys::close(fd);
    return -1;
}

/// Makes `path` absolute. False after a message.
bool set_path(PoolFile& file, const char* path) {
    usize length = 0;
    if (path[0] != '/') {
        const long got = sys::getcwd(file.path, sizeof file.path);
        if (sys::failed(got) || file.path[0] != '/') {
            message("pool ", path,
                    ": cannot find the working directory: give AEP_POOL an absolute path");
            return false;
        }
        length = static_cast<usize>(got) - 1;
        if (length > 1) file.path[length++] = '/';
    }
    const usize more = __builtin_strlen(path);
    if (more == 0 || length + more >= sizeof file.path - PATH_SLACK) {
        message("pool: AEP_POOL is ", more == 0 ? "empty" : "too long a path", ": name a file");
        return false;
    }
    __builtin_memcpy(file.path + length, path, more + 1);
    return true;
}

}  // namespace

bool examine_pool_file(PoolFile& file, int fd) {
    struct stat st;
    const long result = sys::fstat(fd, &st);
    if (sys::failed(result)) {
        message("pool ", file.path, ": fstat: ", Errno{result});
        return false;
    }
    DaxDevice device;
    const bool dax = find_dax_device(fd, st, device);
    if (dax) {
        file.memory = PoolMemory::device;
        file.page_bytes = device.align;
    }
    const u64 bytes = dax ? round_down(device.bytes, CHUNK_SIZE) : static_cast<u64>(st.st_size);
    if (!acceptable(file.path, st, dax) || !(dax || read_file_system(file, fd)) ||
        !read_superblock(file, fd, bytes))
        return false;
    file.device = st.st_dev;
    file.inode = st.st_ino;
    return true;
}

int open_pool_file(PoolFile& file, const char* path, const PoolPlan& plan, PoolUser user) {
    if (!set_path(file, path)) return -1;
    // Whoever loses the race for creation opens the winner's; a few rounds only if somebody keeps
    // removing it.
    for (int round = 0; round < 8; ++round) {
        const int fd = open_existing(file, plan, user);
        if (fd != -ENOENT) return fd;
        if (is_device_path(file.path)) {
            message(
                "pool ", file.path,
                ": there is no such device; a file there would be memory of this machine alone: "
                "put a pool of one machine into /dev/shm");
            return -1;
        }
        if (!create_pool_file(file.path, plan)) return -1;
    }
    message("pool ", file.path,
            ": somebody removes it as often as it is created: name another file");
    return -1;
}

bool read_pool(const PoolFile& file, int fd, void* to, usize bytes, u64 at) {
    if (file.memory != PoolMemory::device) return sys::read_all(fd, to, bytes, at);
    const u64 begin = round_down(at, file.page_bytes);
    const usize mapped = round_up(at + bytes - begin, file.page_bytes);
    const Mapping part(fd, begin, mapped, PROT_READ);
    if (part.failed()) return false;
    return read_carefully(to, static_cast<const u8*>(part.at()) + (at - begin), bytes);
}

int reopen_pool_file(const PoolFile& file) {
    const long opened = sys::open(file.path, OPEN_FLAGS);
    if (sys::failed(opened)) return static_cast<int>(opened);
    const int fd = away_from_stdio(static_cast<int>(opened));
    if (fd >= 0 && !same_pool(file, fd)) {
        sys::close(fd);
        return -ESTALE;
    }
    return fd;
}

namespace {

/// Maps one part of the file shared at its address, not inherited by fork. 0 or -errno.
long map_part(const PoolFile& file, int fd, uptr begin, uptr end, int protection) {
    // NORESERVE: hugetlbfs would set huge pages aside for the whole file.
    constexpr int FLAGS = MAP_SHARED | MAP_NORESERVE;
    const usize bytes = end - begin;
    const long mapped =
        sys::map_exactly(begin, bytes, protection, FLAGS, fd, begin - pool_mapping_base(file));
    if (sys::failed(mapped)) return mapped;
    sys::keep_from_dumps(begin, bytes);  // but chunks of ours: open_chunks()
    const long advised = sys::madvise(begin, bytes, MADV_DONTFORK);
    if (!sys::failed(advised)) return 0;
    sys::munmap(begin, bytes);
    return advised;
}

/// Bytes of the mapping of the tables.
usize tables_bytes(const PoolFile& file) {
    return round_up(tables_end(file.superblock), file.page_bytes);
}

/// The mapping of what nodes share, which follows; on hugetlbfs its beginning may be the tables'.
uptr era_begin(const PoolFile& file) {
    return pool_mapping_base(file) + round_up(file.superblock.era_offset, file.page_bytes);
}
uptr era_end(const PoolFile& file) {
    const Superblock& s = file.superblock;
    const uptr end =
        pool_mapping_base(file) + round_up(s.era_offset + s.era_bytes, file.page_bytes);
    return end > era_begin(file) ? end : era_begin(file);
}

/// The end of the run of chunks from `at` on that are all barred, or all not.
uptr run_end(const u8* barred, uptr at, uptr end) {
    const auto is_barred = [&](uptr chunk) {
        return barred != nullptr && barred[(chunk - HEAP_BASE) >> CHUNK_SHIFT] != 0;
    };
    const bool first = is_barred(at);
    while (at < end && is_barred(at) == first) at += CHUNK_SIZE;
    return at;
}

}  // namespace

long map_pool_file(const PoolFile& file, int fd, const u8* barred) {
    const uptr base = pool_mapping_base(file);
    const uptr end = pool_mapping_end(file);
    // What lies between the tables and chunk 0 stays unmapped.
    long result = map_part(file, fd, base, base + tables_bytes(file), PROT_READ | PROT_WRITE);
    if (sys::failed(result)) return result;
    if (era_end(file) != era_begin(file)) {
        result = map_part(file, fd, era_begin(file), era_end(file), PROT_NONE);
        if (sys::failed(result)) {
            sys::munmap(base, tables_bytes(file));
            return result;
        }
    }
    for (uptr at = HEAP_BASE; at < end;) {
        const uptr stop = run_end(barred, at, end);
        if (barred == nullptr || barred[(at - HEAP_BASE) >> CHUNK_SHIFT] == 0) {
            // Not accessible until a chunk is ours: a wild store cannot reach other processes'
            // chunks, and mlockall does not fill the pool.
            result = map_part(file, fd, at, stop, PROT_NONE);
            if (sys::failed(result)) {
                unmap_pool_file(file, barred, at);
                return result;
            }
        }
        at = stop;
    }
    // The tables' memory exists since creation; this finds out if the file has holes there.
    if (!populate(base, tables_bytes(file))) {
        unmap_pool_file(file, barred, end);
        return -ENOSPC;
    }
    return 0;
}

long open_era_region(const PoolFile& file) {
    if (era_end(file) == era_begin(file)) return 0;
    return sys::mprotect(era_begin(file), era_end(file) - era_begin(file), PROT_READ | PROT_WRITE);
}

void unmap_pool_file(const PoolFile& file, const u8* barred, uptr end) {
    const uptr base = pool_mapping_base(file);
    sys::munmap(base, tables_bytes(file));
    sys::munmap(era_begin(file), era_end(file) - era_begin(file));
    for (uptr at = HEAP_BASE; at < end;) {
        const uptr stop = run_end(barred, at, end);
        if (barred == nullptr || barred[(at - HEAP_BASE) >> CHUNK_SHIFT] == 0)
            sys::munmap(at, stop - at);
        at = stop;
    }
}

}  // namespace aep
