// Purpose: map_metadata: the metadata arrays as private anonymous memory at their fixed
//          addresses. Without a context a process's metadata is its own local memory, in
//          anonymous and in pool mode alike.
// Who calls it: both backings, under the driver's growth lock.
// Crash rule: the memory dies with the process.
#include <errno.h>

#include <iterator>

#include "shim/backing/backing.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

constexpr u32 MAX_GROUPS = MAX_CHUNKS / CHUNKS_PER_META_GROUP;

/// Groups [0, mapped_groups) are mapped: every index below the highest ever asked for has its
/// metadata, so that a wild pointer below the top of the heap finds a zero descriptor and not a
/// hole.
u32 mapped_groups = 0;
/// One bit a group: its descriptors can be written. The others lie between chunks of ours (in a
/// pool those are other processes') and are read only: they show the system's one zero page, and
/// neither mlockall nor strict overcommit counts memory for them. Bitmaps are accessible
/// where chunks are, alone: nobody looks at them unless a descriptor says that there is a page.
u64 writable[MAX_GROUPS / 64];

bool is_writable(u32 group) { return (writable[group / 64] >> (group % 64) & 1) != 0; }

void set_writable(u32 first, u32 end) {
    for (u32 group = first; group < end; ++group) writable[group / 64] |= u64{1} << (group % 64);
}

/// What one array needs for `groups` groups.
struct Part {
    uptr address;
    usize bytes;
    bool keep_small;  // sparse: no huge pages
};

constexpr usize group_bytes(MetaArray array, u32 entries_per_chunk) {
    return array.stride * entries_per_chunk * CHUNKS_PER_META_GROUP;
}

/// All arrays: those of slices, then the one of chunks.
constexpr usize ARRAYS = std::size(SLICE_ARRAYS) + 1;

/// Whether anybody may look at it for any address below the top of the heap: descriptors.
bool is_looked_at(usize array) {
    return array == std::size(SLICE_ARRAYS) || SLICE_ARRAYS[array].base == DESCS.base;
}

Part part_of(usize array, u32 first_group, u32 groups) {
    const bool of_slices = array < std::size(SLICE_ARRAYS);
    const MetaArray& meta = of_slices ? SLICE_ARRAYS[array] : CHUNK_DESCS;
    const usize bytes = group_bytes(meta, of_slices ? SLICES_PER_CHUNK : 1);
    return {meta.base + bytes * first_group, bytes * groups, bytes >= 2 * MiB};
}

bool map_part(const Part& part, int protection) {
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const long mapped = sys::map_exactly(part.address, part.bytes, protection, FLAGS);
    if (sys::failed(mapped)) {
        if (mapped == -EEXIST) {
            message("metadata range ", Hex{part.address}, " + ", Bytes{part.bytes},
                    " is used by another mapping of this process");
        }
        return false;
    }
    // A huge page for the first touch of a sparse array would cost 2 MiB where 4 KiB are wanted.
    if (part.keep_small) sys::madvise(part.address, part.bytes, MADV_NOHUGEPAGE);
    return true;
}

/// Maps groups [mapped_groups, end): all or none; descriptors with that protection.
bool map_groups(u32 end, int protection) {
    const u32 groups = end - mapped_groups;
    for (usize array = 0; array < ARRAYS; ++array) {
        if (!map_part(part_of(array, mapped_groups, groups),
                      is_looked_at(array) ? protection : PROT_NONE)) {
            while (array != 0) {
                const Part part = part_of(--array, mapped_groups, groups);
                sys::munmap(part.address, part.bytes);
            }
            return false;
        }
    }
    mapped_groups = end;
    return true;
}

/// Makes the descriptors of mapped groups writable. On failure some arrays may be: without harm,
/// nobody writes them.
bool open_groups(u32 first, u32 end) {
    for (usize array = 0; array < ARRAYS; ++array) {
        if (!is_looked_at(array)) continue;
        const Part part = part_of(array, first, end - first);
        if (sys::failed(sys::mprotect(part.address, part.bytes, PROT_READ | PROT_WRITE)))
            return false;
    }
    set_writable(first, end);
    return true;
}

}  // namespace

bool protect_bitmaps(u32 first, u32 count, int protection) {
    constexpr usize BYTES = BLOCK_BITS.stride * SLICES_PER_CHUNK;
    return !sys::failed(sys::mprotect(BLOCK_BITS.base + BYTES * first, BYTES * count, protection));
}

void metadata_begins_at(ChunkIndex end) {
    mapped_groups = raw(end) / CHUNKS_PER_META_GROUP;
    set_writable(0, mapped_groups);
}

bool map_metadata(ChunkIndex first, u32 count) {
    const u32 begin = raw(first) / CHUNKS_PER_META_GROUP;
    const u32 end = (raw(first) + count + CHUNKS_PER_META_GROUP - 1) / CHUNKS_PER_META_GROUP;
    if (end > MAX_GROUPS) return false;
    if (begin > mapped_groups && !map_groups(begin, PROT_READ)) return false;
    if (end > mapped_groups) {
        const u32 fresh = mapped_groups;
        if (!map_groups(end, PROT_READ | PROT_WRITE)) return false;
        set_writable(fresh, end);
    }
    for (u32 group = begin; group < end; ++group) {
        if (is_writable(group)) continue;
        const u32 closed = group;
        while (group < end && !is_writable(group)) ++group;
        if (!open_groups(closed, group)) return false;
    }
    return protect_bitmaps(raw(first), count, PROT_READ | PROT_WRITE);
}

}  // namespace aep
