// Purpose: see metadata.hpp.
// Who calls it: recovery, cache decay.
// Crash rule: see metadata.hpp.
#include "tools/node/metadata.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "dsm-core/context/format.hpp"
#include "dsm-core/heap/page.hpp"

namespace aep {
namespace {

constexpr usize bytes_a_chunk(const MetaArray& array) { return array.stride * SLICES_PER_CHUNK; }

/// Whether the file has memory in the range. Asked of the file, because looking would make some.
bool has_data(int fd, u64 at, u64 bytes) {
    const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    return data >= 0 && static_cast<u64>(data) < at + bytes;
}

/// Bytes of the bitmaps that a page with a tag of that kind can have used: of a small one the kind
/// is the granule's shift. Never beyond the slice's own, whatever a dead client wrote there.
usize bitmap_bytes(u32 kind) {
    const usize bits = kind < TAG_SMALL_LIMIT ? SLICE_SIZE >> kind : usize{MAX_BITS};
    return round_up(std::min(bits, usize{MAX_BITS}), 64) / 64 * sizeof(BlockBits);
}

void clear_bitmaps(u32 slice, usize bytes) {
    void* const at = block_bits_of(SliceIndex{slice});
    // Read first: a fault of a read maps the pages around it, too, one of a write its own alone.
    static_cast<void>(*static_cast<const volatile u64*>(at));
    std::memset(at, 0, bytes);
}

void punch(int fd, u64 at, u64 bytes) {
    if (!has_data(fd, at, bytes)) return;
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at),
              static_cast<off_t>(bytes));
}

}  // namespace

void ChunkCleaner::clear(u32 chunk) {
    const ChunkIndex index{chunk};
    ChunkDesc* desc = chunk_desc(index);
    const uptr desc_page = CHUNK_DESCS.base + CHUNK_DESCS.stride * chunk;
    // Claimed and never used: nothing of it is written.
    if (!has_data(fd_, context_offset_of_meta(desc_page), CHUNK_DESCS.stride)) return;
    const u32 first = raw(first_slice(index));
    // Descriptors that no page ever used have no memory, and should get none here.
    const uptr slices = DESCS.base + DESCS.stride * first;
    const usize bytes = bytes_a_chunk(DESCS);
    const bool written = has_data(fd_, context_offset_of_meta(slices), bytes);
    if (written && desc->holder.load(std::memory_order_acquire) == client_ + 1) {
        for (u64 used = ~desc->free; used != 0; used &= used - 1) {
            const u32 slice = first + lowest_bit(used);
            const u32 kind =
                kind_of(desc_of(SliceIndex{slice})->tag.load(std::memory_order_relaxed));
            if (is_page_kind(kind)) clear_bitmaps(slice, bitmap_bytes(kind));
        }
    }
    // Free slices, too, say something of their memory.
    if (written) std::memset(reinterpret_cast<void*>(slices), 0, bytes);
    std::memset(static_cast<void*>(desc), 0, sizeof *desc);
}

void punch_chunk_metadata(int fd, u32 chunk) {
    for (const MetaArray& array : SLICE_ARRAYS) {
        punch(fd, context_offset_of_meta(array.base) + bytes_a_chunk(array) * chunk,
              bytes_a_chunk(array));
    }
    punch(fd, context_offset_of_meta(CHUNK_DESCS.base) + CHUNK_DESCS.stride * chunk,
          CHUNK_DESCS.stride);
}

}  // namespace aep
