// Purpose: the pool file as a file: creates it whole or not at all, opens it, refuses everything
//          that is not a sound pool of ours with a message, and opens the same one again later.
// Who calls it: pool_backing.cpp, node_identity.cpp, reclaim.cpp.
// Crash rule: a new pool gets its name after it is complete; a kill before that leaves nothing
//             (or, on a file system without O_TMPFILE, a file PATH.new.* that nobody opens).
#pragma once

#include "dsm-core/pool/superblock.hpp"
#include "shim/backing/pool_plan.hpp"
#include "shim/sys/files.hpp"

namespace aep {

/// What is behind a pool's path.
enum class PoolMemory : u8 {
    file,        // tmpfs, ext4, ...: small pages, holes
    huge_pages,  // hugetlbfs
    device,  // a DAX device or file: memory of its own, which other machines may map, too; no holes
};

/// A pool file that has been opened and verified once.
struct PoolFile {
    char path[MAX_PATH];    // absolute, so that it is found after chdir
    u64 device;             // the file's identity
    u64 inode;              //
    Superblock superblock;  // as read, verified
    usize page_bytes;       // of its mappings: 4 KiB, the huge page, or the device's alignment
    PoolMemory memory;

    /// Whether there are no private mappings of it that fork could make chunks private by.
    bool is_copied_by_fork() const { return memory != PoolMemory::file; }
};

/// Who opens a pool: a device is for nodes that other machines know.
enum class PoolUser : u8 { process, node };

/// Opens the pool at `path`, creating it by the plan when it does not exist, or when
/// it is a device that holds nothing but zeros. The descriptor, or -1 after a message. The
/// descriptor is never 0, 1 or 2, and closes on exec.
int open_pool_file(PoolFile& file, const char* path, const PoolPlan& plan, PoolUser user);

/// Verifies the pool behind a descriptor that somebody handed us; file.path is set, for messages.
/// False after one.
bool examine_pool_file(PoolFile& file, int fd);

/// Opens the same pool again: -errno if the path does not lead to it any more (ESTALE: to another
/// file).
int reopen_pool_file(const PoolFile& file);

/// Reads part of the pool, which a device does not let itself be read. False: it cannot be.
bool read_pool(const PoolFile& file, int fd, void* to, usize bytes, u64 at);

/// Maps all of the file shared, and the room that it may grow into: tables just below the heap window and chunk 0 at its
/// start, the chunks without access; not inherited by fork. Parts of the window whose chunks have barred[i] != 0 (null: none) are left as
/// they are. 0 or -errno, with nothing mapped.
long map_pool_file(const PoolFile& file, int fd, const u8* barred);

/// Gives access to what nodes share, which is mapped without: a wild store of a process that has to
/// do with no other node does not reach it. 0 or -errno.
long open_era_region(const PoolFile& file);

/// Unmaps what map_pool_file maps, up to the address `end`.
void unmap_pool_file(const PoolFile& file, const u8* barred, uptr end);

/// Address of the file's offset 0 in the mapping, and of its end with all room that the pool has.
inline uptr pool_mapping_base(const PoolFile& file) {
    return HEAP_BASE - file.superblock.chunks_offset;
}
inline uptr pool_mapping_end(const PoolFile& file) {
    return pool_mapping_base(file) + file.superblock.room_bytes;
}

}  // namespace aep
