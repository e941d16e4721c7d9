// Purpose: map_metadata: the metadata arrays as private anonymous memory at their fixed
//          addresses. Without a context a process's metadata is its own local memory, in
//          anonymous and in pool mode alike.
// Who calls it: both backings, under the driver's growth lock.
// Crash rule: the memory dies with the process.
#include <errno.h>

#include <iterator>

#include "shim/backing.hpp"
#include "shim/message.hpp"
#include "shim/syscall.hpp"

namespace aep {
namespace {

constexpr u32 MAX_GROUPS = MAX_CHUNKS / CHUNKS_PER_META_GROUP;

/// Groups [0, mapped_groups) are mapped: every index below the highest ever asked for has its
/// metadata, so that a wild pointer below the top of the heap finds a zero descriptor and not a
/// hole.
u32 mapped_groups = 0;

/// What one array needs for `groups` groups.
struct Part {
    uptr address;
    usize bytes;
};

constexpr usize group_bytes(MetaArray array, u32 entries_per_chunk) {
    return array.stride * entries_per_chunk * CHUNKS_PER_META_GROUP;
}

Part part_of(MetaArray array, u32 entries_per_chunk, u32 first_group, u32 groups) {
    const usize bytes = group_bytes(array, entries_per_chunk);
    return {array.base + bytes * first_group, bytes * groups};
}

bool map_part(Part part, bool keep_small) {
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    const long at = sys::mmap(part.address, part.bytes, PROT_READ | PROT_WRITE, FLAGS);
    if (at != static_cast<long>(part.address)) {
        if (!sys::failed(at)) {  // a kernel before 4.17 takes the address for a hint
            sys::munmap(static_cast<uptr>(at), part.bytes);
        }
        if (!sys::failed(at) || at == -EEXIST) {
            message("metadata range ", Hex{part.address}, " + ", Bytes{part.bytes},
                    " is used by another mapping of this process");
        }
        return false;
    }
    // A huge page for the first touch of a sparse array would cost 2 MiB where 4 KiB are wanted.
    if (keep_small) {
        sys::madvise(part.address, part.bytes, MADV_NOHUGEPAGE);
    }
    return true;
}

}  // namespace

bool map_metadata(ChunkIndex first, u32 count) {
    const u32 wanted = (raw(first) + count + CHUNKS_PER_META_GROUP - 1) / CHUNKS_PER_META_GROUP;
    if (wanted <= mapped_groups) {
        return true;
    }
    if (wanted > MAX_GROUPS) {
        return false;
    }
    const u32 groups = wanted - mapped_groups;
    Part done[std::size(SLICE_ARRAYS) + 1];
    usize parts = 0;
    bool ok = true;
    for (const MetaArray& array : SLICE_ARRAYS) {
        const Part part = part_of(array, SLICES_PER_CHUNK, mapped_groups, groups);
        ok = map_part(part, group_bytes(array, SLICES_PER_CHUNK) >= 2 * MiB);
        if (!ok) {
            break;
        }
        done[parts++] = part;
    }
    if (ok) {
        const Part part = part_of(CHUNK_DESCS, 1, mapped_groups, groups);
        ok = map_part(part, false);
    }
    if (!ok) {
        while (parts != 0) {
            --parts;
            sys::munmap(done[parts].address, done[parts].bytes);
        }
        return false;
    }
    mapped_groups = wanted;
    return true;
}

}  // namespace aep
