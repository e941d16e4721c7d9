// Purpose: see failed_memory.hpp.
// Who calls it: see failed_memory.hpp.
// Crash rule: see failed_memory.hpp.
#include "node/failed_memory.hpp"

#include <fmt/format.h>

#include "dsm-core/context/node_ops.hpp"
#include "shim/backing/pool_clean.hpp"

namespace aep {

void FailedMemory::note(u64 address) {
    const u64 page = round_down(address, OS_PAGE_SIZE);
    const u64 offset = page - HEAP_BASE;
    // Of a device nothing is read here: that would be a signal for us, too.
    if (pool_.file().memory == PoolMemory::device) return;
    u8 byte;
    if (offset >= u64{pool_.tables().chunk_count} * CHUNK_SIZE || pool_.read(page, &byte, 1))
        return;
    const u32 chunk = static_cast<u32>(offset / CHUNK_SIZE);
    if (!chunks_.emplace(chunk, Fate::used).second) return;
    log_(LogLevel::error,
         fmt::format("pool {}: the memory at offset {} cannot be read: the {} MiB around it go to "
                     "nobody before they have "
                     "been cleaned; look for what the system says of it (dmesg), and whether the "
                     "file was cut",
                     pool_.file().path, pool_.file().superblock.chunks_offset + offset,
                     CHUNK_SIZE / MiB));
}

bool FailedMemory::can_be_read(u32 chunk) const {
    for (u64 at = 0; at < CHUNK_SIZE; at += OS_PAGE_SIZE) {
        u8 byte;
        if (!pool_.read(HEAP_BASE + u64{chunk} * CHUNK_SIZE + at, &byte, 1)) return false;
    }
    return true;
}

u32 FailedMemory::look_after() {
    u32 mended = 0;
    for (auto i = chunks_.begin(); i != chunks_.end();) {
        const u32 chunk = i->first;
        if (i->second == Fate::used && cache_.take_out(chunk)) {
            i->second = Fate::retired;
            log_(LogLevel::warning,
                 fmt::format("pool {}: chunk {}, of which memory has failed, is nobody's any more "
                             "and kept from all until it can be read; look for what the system "
                             "says of it (dmesg), and whether the file was cut",
                             pool_.file().path, chunk));
        }
        // Its pages are others when it has been cleaned.
        if (i->second == Fate::retired && clean_chunk(pool_.file(), pool_.fd(), chunk) == 0 &&
            can_be_read(chunk) && cache_.give_back(chunk)) {
            log_(LogLevel::info,
                 fmt::format("pool {}: chunk {} is whole again", pool_.file().path, chunk));
            i = chunks_.erase(i);
            ++mended;
        } else {
            ++i;
        }
    }
    return mended;
}

u64 FailedMemory::retired_bytes() const {
    u64 chunks = 0;
    for (const auto& [chunk, fate] : chunks_) chunks += fate == Fate::retired;
    return chunks * CHUNK_SIZE;
}

}  // namespace aep
