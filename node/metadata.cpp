// Purpose: see metadata.hpp.
// Who calls it: recovery, cache decay.
// Crash rule: see metadata.hpp.
//
// The file is read and written, not its mapping. An OS page of it to which this process comes for
// the first time would cost a page fault, in a virtual machine two (measured: 9 us each, 20 a
// chunk); and what nobody has written reads as zero without getting memory by that.
#include "node/metadata.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "dsm-core/context/format.hpp"
#include "dsm-core/heap/page.hpp"
#include "shim/sys/read_all.hpp"

namespace aep {
namespace {

constexpr usize bytes_a_chunk(const MetaArray& array) { return array.stride * SLICES_PER_CHUNK; }

constexpr std::byte ZEROS[std::max(bytes_a_chunk(BLOCK_BITS), bytes_a_chunk(DESCS))]{};

/// N objects of the file, by value.
template <class T, usize N>
struct Copy {
    u64 at;
    alignas(T) std::byte bytes[N * sizeof(T)];

    const T& operator[](usize i) const { return reinterpret_cast<const T*>(bytes)[i]; }
    bool is_zero() const { return std::memcmp(bytes, ZEROS, sizeof bytes) == 0; }

    /// From the address where they are mapped. False: the file cannot be read.
    bool read(int fd, const T* from) {
        at = context_offset_of_meta(reinterpret_cast<uptr>(from));
        return sys::read_all(fd, bytes, sizeof bytes, at);
    }
};

/// Whether the file has memory in the range. Asked of the file, because looking would make some.
bool has_data(int fd, u64 at, u64 bytes) {
    const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    return data >= 0 && static_cast<u64>(data) < at + bytes;
}

/// Up to as many bytes as a chunk's bitmaps have. Where the file has no memory and gets none, they
/// are zero; what cannot be written loses its memory.
void clear(int fd, u64 at, u64 bytes) {
    for (const u64 end = at + bytes; at < end;) {
        const ssize_t done = pwrite(fd, ZEROS, end - at, static_cast<off_t>(at));
        if (done > 0) {
            at += static_cast<u64>(done);
        } else if (done == 0 || errno != EINTR) {
            const u64 next = std::min(end, round_up(at + 1, OS_PAGE_SIZE));
            punch_range(fd, at, next - at);
            at = next;
        }
    }
}

/// Bytes of the bitmaps that a page of that many blocks can have used. Never beyond the slice's
/// own, whatever a dead client wrote there.
usize bitmap_bytes(u32 capacity) {
    return round_up(std::min(capacity, MAX_BLOCKS), BLOCKS_A_WORD) / BLOCKS_A_WORD *
           sizeof(BlockBits);
}

/// The bitmaps of the pages that begin in the slices `used` of a chunk, those of neighbours at
/// once.
void clear_bitmaps(int fd, SliceIndex first, u64 used, const Copy<PageDesc, SLICES_PER_CHUNK>& of) {
    const u64 base = context_offset_of_meta(reinterpret_cast<uptr>(block_bits_of(first)));
    u64 begin = 0;
    u64 end = 0;
    u32 next = SLICES_PER_CHUNK;  // none
    for (; used != 0; used &= used - 1) {
        const u32 slice = lowest_bit(used);
        const PageDesc& page = of[slice];
        if (kind_of(page.tag.load(std::memory_order_relaxed)) != TAG_PAGE) continue;
        const u64 at = base + slice * BLOCK_BITS.stride;
        if (slice != next) {
            clear(fd, begin, end - begin);
            begin = at;
        }
        end = at + bitmap_bytes(page.capacity);
        next = slice + 1;
    }
    clear(fd, begin, end - begin);
}

void punch(int fd, u64 at, u64 bytes) {
    if (has_data(fd, at, bytes)) punch_range(fd, at, bytes);
}

}  // namespace

bool punch_range(int fd, u64 at, u64 bytes) {
    constexpr int PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    int result;
    do {
        result = fallocate(fd, PUNCH, static_cast<off_t>(at), static_cast<off_t>(bytes));
    } while (result != 0 && errno == EINTR);
    return result == 0;
}

bool clear_chunk_metadata(int fd, u32 client, u32 chunk) {
    const SliceIndex first = first_slice(ChunkIndex{chunk});
    Copy<ChunkDesc, 1> desc;
    Copy<PageDesc, SLICES_PER_CHUNK> slices;
    if (!desc.read(fd, chunk_desc(ChunkIndex{chunk})) || !slices.read(fd, desc_of(first))) {
        punch_chunk_metadata(fd, chunk);
        return false;
    }
    if (!slices.is_zero()) {
        if (desc[0].holder.load(std::memory_order_relaxed) == client + 1)
            clear_bitmaps(fd, first, ~desc[0].free, slices);
        // Free slices, too, say something of their memory.
        clear(fd, slices.at, sizeof slices.bytes);
    }
    if (!desc.is_zero()) clear(fd, desc.at, sizeof desc.bytes);
    return desc[0].coarse != 0;
}

void punch_stack(int fd, u32 slot) {
    punch(fd, STACKS_OFFSET + (stack_of_slot(slot) - stacks_base()), STACK_BYTES);
    punch(fd, log_of_slot(slot) - control_base(), LOG_STRIDE);
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
