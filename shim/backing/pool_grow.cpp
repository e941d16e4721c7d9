// Purpose: see pool_grow.hpp.
// Who calls it: see pool_grow.hpp.
// Crash rule: see pool_grow.hpp.
#include "shim/backing/pool_grow.hpp"

#include <errno.h>
#include <linux/falloc.h>

#include "dsm-core/pool/crash_points.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/backing/pool_device.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/range_lock.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

/// Beyond the locks of all entries of the node table.
constexpr u64 GROW_LOCK_OFFSET = NODE_LOCK_OFFSET + 2 * u64{MAX_NODES};

/// One grower of a system at a time: of two the later one must not make the file shorter again.
class GrowLock {
  public:
    explicit GrowLock(int fd) : fd_(fd) {
        result_ = sys::uninterrupted([&] { return change(F_OFD_SETLKW, F_WRLCK); });
    }
    ~GrowLock() { change(F_OFD_SETLK, F_UNLCK); }
    GrowLock(const GrowLock&) = delete;
    GrowLock& operator=(const GrowLock&) = delete;
    long result() const { return result_; }

  private:
    long change(int how, short type) const {
        struct flock lock = range_lock(type, GROW_LOCK_OFFSET);
        return sys::fcntl(fd_, how, &lock);
    }
    int fd_;
    long result_;
};

bool refuse(const PoolFile& file, const char* what, long error, const char* advice) {
    message("pool ", file.path, ": cannot grow: ", what, ": ", Errno{error}, advice);
    return false;
}

/// Makes a file that long, with nothing but zeros from `from` on. False after a message.
bool extend_file(const PoolFile& file, int fd, u64 from, u64 bytes) {
    struct stat st;
    if (const long got = sys::fstat(fd, &st); sys::failed(got))
        return refuse(file, "fstat", got, "");
    if (static_cast<u64>(st.st_size) < bytes) {
        const long result = sys::uninterrupted([&] { return sys::ftruncate(fd, bytes); });
        if (sys::failed(result)) {
            return refuse(file, "making the file longer", result,
                          result == -EFBIG ? ": raise ulimit -f" : "");
        }
    }
    // What lies there was written by nobody who had a chunk of it.
    constexpr int PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const long punched =
        sys::uninterrupted([&] { return sys::fallocate(fd, PUNCH, from, bytes - from); });
    return sys::failed(punched) ? refuse(file, "clearing its new part", punched, "") : true;
}

/// Whether a device has that much, with nothing but zeros from `from` on. False after a message.
bool look_at_device(const PoolFile& file, int fd, u64 from, u64 bytes) {
    struct stat st;
    DaxDevice device{};
    if (const long got = sys::fstat(fd, &st); sys::failed(got))
        return refuse(file, "fstat", got, "");
    find_dax_device(fd, st, device);
    const u64 there = device.bytes < bytes ? device.bytes : first_hole(fd, device, from);
    if (there < bytes) {
        message("pool ", file.path, ": cannot grow: ", device.is_file ? "the file" : "the device",
                " has ", Bytes{there}, " of memory, expected ", Bytes{bytes},
                " or more: give a smaller --size",
                device.is_file ? ", or write zeros to its end first (dd oflag=append "
                                 "conv=notrunc,fsync)"
                               : "");
        return false;
    }
    const long used = first_used_byte(fd, from, bytes, device.align);
    if (sys::failed(used)) return refuse(file, "mapping its new part", used, "");
    if (used == static_cast<long>(bytes)) return true;
    message("pool ", file.path,
            ": cannot grow: its new part is not empty: the first of its data is at offset ",
            static_cast<u64>(used),
            ", or memory there cannot be read (dmesg); if nobody needs them, clear it from ", from,
            " on");
    return false;
}

}  // namespace

bool grow_pool_file(const PoolFile& file, int fd, const PoolTables& tables, u64 bytes) {
    const Superblock& s = file.superblock;
    const u64 wanted = round_down(bytes, CHUNK_SIZE);
    if (wanted > s.room_bytes) {
        message("pool ", file.path, ": cannot grow to ", Bytes{wanted},
                ": it was made with room for ", Bytes{s.room_bytes},
                ": give a smaller --size, or make a new one (aep pool create --room)");
        return false;
    }
    const GrowLock lock(fd);
    if (sys::failed(lock.result())) return refuse(file, "locking it", lock.result(), "");
    AEP_POOL_CRASH_POINT("grow: locked");
    const u64 there = bytes_there(s, tables);
    if (wanted < there) {
        message("pool ", file.path, ": has ", Bytes{there}, " already: it only grows");
        return false;
    }
    if (wanted == there) return true;
    const bool device = file.memory == PoolMemory::device;
    if (!(device ? look_at_device(file, fd, there, wanted) : extend_file(file, fd, there, wanted)))
        return false;
    AEP_POOL_CRASH_POINT("grow: memory there");
    grow_to(tables, static_cast<u32>((wanted - s.chunks_offset) / CHUNK_SIZE));
    AEP_POOL_CRASH_POINT("grow: told");
    return true;
}

}  // namespace aep
