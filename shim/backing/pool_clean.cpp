// Purpose: see pool_clean.hpp.
// Who calls it: see pool_clean.hpp.
// Crash rule: see pool_clean.hpp.
#include "shim/backing/pool_clean.hpp"

#include <emmintrin.h>
#include <errno.h>
#include <linux/falloc.h>

#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

/// Past the caches: what a machine has in its caches is lost when it dies, and the chunk may be
/// another's by then. The fence orders them before the store that gives the chunk away.
void write_zeros(uptr address, usize bytes) {
    for (uptr at = address; at < address + bytes; at += sizeof(long long))
        _mm_stream_si64(reinterpret_cast<long long*>(at), 0);
    _mm_sfence();
}

}  // namespace

long clean_chunk(const PoolFile& file, int fd, u32 chunk) {
    const u64 at = file.superblock.chunks_offset + usize{chunk} * CHUNK_SIZE;
    if (file.memory == PoolMemory::device) {
        const long view = sys::mmap(0, CHUNK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
        if (sys::failed(view)) return view;
        write_zeros(static_cast<uptr>(view), CHUNK_SIZE);
        sys::munmap(static_cast<uptr>(view), CHUNK_SIZE);
        return 0;
    }
    constexpr int PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    long result;
    do {
        result = sys::fallocate(fd, PUNCH, at, CHUNK_SIZE);
    } while (result == -EINTR);
    return result;
}

bool clean_chunks(const PoolFile& file, uptr address, usize bytes) {
    if (file.memory == PoolMemory::device) {
        // The program may have taken its own access away from parts.
        if (sys::failed(sys::mprotect(address, bytes, PROT_READ | PROT_WRITE))) return false;
        write_zeros(address, bytes);
        return true;
    }
    return !sys::failed(sys::madvise(address, bytes, MADV_REMOVE));
}

}  // namespace aep
