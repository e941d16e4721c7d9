// Purpose: see pool_bytes.hpp.
// Who calls it: see pool_bytes.hpp.
// Crash rule: see pool_bytes.hpp.
#include "node/pool_bytes.hpp"

#include <unistd.h>

#include <cstring>

#include "shim/sys/mapping.hpp"

namespace aep {

bool read_pool(const NodePool& pool, u64 address, void* to, usize bytes) {
    const u64 all = u64{pool.tables().chunk_count} * CHUNK_SIZE;
    const u64 from = address - HEAP_BASE;
    if (address < HEAP_BASE || from >= all || bytes > CHUNK_SIZE - from % CHUNK_SIZE) return false;
    const u64 at = pool.file().superblock.chunks_offset + from;
    // Of a file by a call that no truncation turns into a signal; a device has no such call.
    if (pool.file().memory != PoolMemory::device)
        return pread(pool.fd(), to, bytes, static_cast<off_t>(at)) == static_cast<ssize_t>(bytes);
    const Mapping chunk(pool.fd(), at - from % CHUNK_SIZE, CHUNK_SIZE, PROT_READ);
    if (chunk.failed()) return false;
    std::memcpy(to, static_cast<const u8*>(chunk.at()) + from % CHUNK_SIZE, bytes);
    return true;
}

}  // namespace aep
