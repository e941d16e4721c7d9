// Purpose: see domain_memory.hpp.
// Who calls it: see domain_memory.hpp.
// Crash rule: see domain_memory.hpp.
#include "shim/backing/domain_memory.hpp"

#include <errno.h>

#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

constexpr int OPEN = PROT_READ | PROT_WRITE;

/// Chunks below it have room in the arena that is accessible.
u32 arena_open = 0;
constexpr u32 ARENA_STEP = Arena::ChunkSets::MEMBERS_OF_PAGE;

bool claimed = false;

Place map_fixed(uptr address, usize bytes, int protection) {
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const long mapped = sys::map_exactly(address, bytes, protection, FLAGS);
    if (!sys::failed(mapped)) return Place::ours;
    return mapped == -EEXIST ? Place::taken : Place::no_memory;
}

bool open_parts(const Domain& dom, u32 end, u32 heaps) {
    const u32 chunks = static_cast<u32>(round_up(end, ARENA_STEP)) - 1;
    const auto open = [](uptr address, usize bytes) {
        return !sys::failed(sys::mprotect(address, bytes, OPEN));
    };
    if (!for_each_domain_part(dom, chunks, heaps, open)) return false;
    arena_open = chunks;
    return true;
}

}  // namespace

Place claim_own_domain(const Domain& dom, u32 heaps) {
    if (claimed) return Place::ours;
    const Place place = map_fixed(reinterpret_cast<uptr>(&dom), heaps_end(heaps), PROT_NONE);
    claimed = place == Place::ours;
    return place;
}

bool open_own_domain(const Domain& dom, u32 heaps) {
    return claim_own_domain(dom, heaps) == Place::ours && open_parts(dom, 1, heaps);
}

bool map_own_heaps(uptr address, usize bytes) {
    return map_fixed(address, bytes, OPEN) == Place::ours;
}

bool open_arena(const Domain& dom, u32 end) {
    return end <= arena_open ||
           open_parts(dom, end, dom.heaps_mapped.load(std::memory_order_relaxed));
}

void arena_is_open(u32 end) { arena_open = end; }

}  // namespace aep
