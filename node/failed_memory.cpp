// Purpose: see failed_memory.hpp.
// Who calls it: see failed_memory.hpp.
// Crash rule: see failed_memory.hpp.
#include "node/failed_memory.hpp"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>

#include "dsm-core/context/node_ops.hpp"
#include "shim/backing/pool_clean.hpp"

namespace aep {

bool FailedMemory::has_failed(u64 page, int code) const {
    if (is_device()) return code == BUS_MCEERR_AR || code == BUS_MCEERR_AO;
    u8 byte;
    return !pool_.read(page, &byte, 1);
}

void FailedMemory::note(u64 address, int code) {
    const u64 page = round_down(address, OS_PAGE_SIZE);
    const u64 offset = page - HEAP_BASE;
    if (offset >= u64{pool_.tables().chunks_there()} * CHUNK_SIZE || !has_failed(page, code))
        return;
    if (!mark_failed(pool_.tables(), static_cast<u32>(offset / CHUNK_SIZE))) return;
    const std::string where = fmt::format("pool {}: the memory at offset {}", pool_.file().path,
                                          pool_.file().superblock.chunks_offset + offset);
    log_(LogLevel::error,
         is_device()
             ? fmt::format("{} has failed, the machine reports: the {} MiB around it go to nobody "
                           "any more when they are given back; look for what the system says of it "
                           "(dmesg), clear or replace the memory, and make the pool anew",
                           where, CHUNK_SIZE / MiB)
             : fmt::format("{} cannot be read: the {} MiB around it go to nobody before they have "
                           "been cleaned; look for what the system says of it (dmesg), and whether "
                           "the file was cut",
                           where, CHUNK_SIZE / MiB));
}

bool FailedMemory::can_be_read(u32 chunk) const {
    for (u64 at = 0; at < CHUNK_SIZE; at += OS_PAGE_SIZE) {
        u8 byte;
        if (!pool_.read(HEAP_BASE + u64{chunk} * CHUNK_SIZE + at, &byte, 1)) return false;
    }
    return true;
}

/// False: it is as it was, or somebody else is at it.
bool FailedMemory::mend(u32 chunk) {
    std::atomic<u32>& owner = chunk_owner(chunk);
    u32 nobody = OWNER_NOBODY;
    if (!owner.compare_exchange_strong(nobody, OWNER_RETURNING, std::memory_order_acq_rel))
        return false;
    if (!claim_retired_chunk(pool_.tables(), pool_.owner(), chunk)) {
        owner.store(OWNER_NOBODY, std::memory_order_release);
        return false;
    }
    // Its pages are others when it has been cleaned.
    const bool whole = clean_chunk(pool_.file(), pool_.fd(), chunk) == 0 && can_be_read(chunk) &&
                       mend_chunk(pool_.tables(), pool_.owner(), chunk);
    cache_.give_back(chunk);
    return whole;
}

u32 FailedMemory::look_after() {
    u32 mended = 0, retired = 0;
    for (u32 c = 0; c < pool_.tables().chunk_count; ++c) {
        if (pool_.tables().chunk(c).bits != RETIRED_CHUNK.bits) continue;
        if (is_device() || !mend(c)) {
            ++retired;
            continue;
        }
        ++mended;
        log_(LogLevel::info, fmt::format("pool {}: chunk {} is whole again", pool_.file().path, c));
    }
    if (retired > told_) {
        log_(LogLevel::warning,
             fmt::format("pool {}: {} MiB, of which memory has failed, are nobody's and kept from "
                         "all{}; look for what the system says of it (dmesg)",
                         pool_.file().path, u64{retired} * CHUNK_SIZE / MiB,
                         is_device() ? "" : " until they can be read"));
    }
    told_ = std::max(told_, retired) - std::min(mended, told_);
    return mended;
}

}  // namespace aep
