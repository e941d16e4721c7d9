// Purpose: see pool_clean.hpp.
// Who calls it: see pool_clean.hpp.
// Crash rule: see pool_clean.hpp.
#include "shim/backing/pool_clean.hpp"

#include <errno.h>
#include <linux/falloc.h>

#include "shim/sys/careful.hpp"
#include "shim/sys/mapping.hpp"

namespace aep {

long clean_chunk(const PoolFile& file, int fd, u32 chunk) {
    const u64 at = file.superblock.chunks_offset + usize{chunk} * CHUNK_SIZE;
    if (file.memory == PoolMemory::device) {
        const Mapping view(fd, at, CHUNK_SIZE, PROT_READ | PROT_WRITE);
        if (view.failed()) return view.error();
        return clear_carefully(view.at(), CHUNK_SIZE) ? 0 : -EFAULT;
    }
    constexpr int PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    long result;
    do {
        result = sys::fallocate(fd, PUNCH, at, CHUNK_SIZE);
    } while (result == -EINTR);
    return result;
}

long clean_to_give_back(const PoolFile& file, const PoolTables& tables, int fd, u32 chunk) {
    if (file.memory == PoolMemory::device && tables.chunk(chunk).has_failed()) return 0;
    const long result = clean_chunk(file, fd, chunk);
    if (result != -EFAULT) return result;
    mark_failed(tables, chunk);
    return 0;
}

bool clean_chunks(const PoolFile& file, uptr address, usize bytes) {
    if (file.memory == PoolMemory::device) {
        // The program may have taken its own access away from parts.
        if (sys::failed(sys::mprotect(address, bytes, PROT_READ | PROT_WRITE))) return false;
        return clear_carefully(reinterpret_cast<void*>(address), bytes);
    }
    return !sys::failed(sys::madvise(address, bytes, MADV_REMOVE));
}

}  // namespace aep
