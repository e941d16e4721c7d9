// Purpose: pools on memory that several machines may have mapped: DAX devices (/dev/dax0.0), which have neither a size that
//          could be changed nor holes, nor read and write, and of which sysfs tells; and files that are mapped past the
//          page cache (fsdax, famfs, virtiofs), which are used like them.
// Who calls it: pool_file.cpp, pool_create.cpp, pool_grow.cpp.
// Crash rule: creation can stop anywhere, on any of the machines that create at once: each writes
//             the same bytes, the magic number last.
#pragma once

#include <sys/stat.h>

#include "shim/backing/pool_plan.hpp"

namespace aep {

struct DaxDevice {
    u64 bytes;
    u64 align;             // mappings begin and end at multiples of it
    bool is_file = false;  // on a file system, which made it
};

/// Whether what is open is such memory, of which `st` tells, and what it has.
bool find_dax_device(int fd, const struct stat& st, DaxDevice& device);

/// Whether a file is mapped past the page cache.
bool is_dax_file(int fd);

/// The first byte from `from` on behind which a file has no memory yet, or none that would outlive a power cut; its end: it has all. A
/// device has.
u64 first_hole(int fd, const DaxDevice& device, u64 from);

/// Makes the device a pool unless it is one (or looks like one: that is judged later). Only zeros
/// are ever overwritten. `plan.bytes`: the size that is asked for, 0: the device's. Machines that create at once have the same plan,
/// or none of them gets a pool. False after a message.
bool create_on_device(const char* path, int fd, const DaxDevice& device, const PoolPlan& plan);

/// The first byte of a device from `from` on that is not zero, or cannot be read; `bytes`: there is none before that. -errno.
/// `align`: its own.
long first_used_byte(int fd, u64 from, u64 bytes, u64 align);

/// Whether the path is absolute and leads to where devices are, however it is spelt: a file there is memory of
/// this machine alone, made by mistake for a device that is not there. Not so below /dev/shm, nor on what else is mounted
/// there.
bool is_device_path(const char* path);

}  // namespace aep
