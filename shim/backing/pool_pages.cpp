// Purpose: see pool_pages.hpp.
// Who calls it: see pool_pages.hpp.
// Crash rule: see pool_pages.hpp.
#include "shim/backing/pool_pages.hpp"

#include <atomic>

#include "shim/backing/headroom.hpp"
#include "shim/backing/huge_pages.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/backing/populate.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

constexpr usize HUGE_PAGE = 2 * MiB;

std::atomic<usize> in_use{0};

/// Where the upper half of the last chunk that was begun with small pages lies; 0: there is none,
/// or something of it was committed already.
std::atomic<uptr> upper_half{0};

/// Whether a quarter of all chunks but for that half is in use. A quarter, because 4 KiB cost
/// several times what they do in a huge page.
bool is_dense() {
    const usize open = pool.bytes_open.load(std::memory_order_relaxed) - CHUNK_SIZE / 2;
    return in_use.load(std::memory_order_relaxed) >= open / 4;
}

/// Whether the mount gave a huge page to a chunk that was to have them: what one OS page brings.
bool are_huge(uptr address) {
    const CgroupRoom room(HUGE_PAGE);
    u8 present = 0;
    return room && populate(address, OS_PAGE_SIZE) &&
           !sys::failed(sys::mincore(address + HUGE_PAGE - OS_PAGE_SIZE, OS_PAGE_SIZE, &present)) &&
           (present & 1) != 0;
}

}  // namespace

bool choose_pool_pages(uptr address, u32 chunks) {
    // A device has no other pages, and cannot be used after the advice against huge ones.
    if (pool.file.memory == PoolMemory::device) return true;
    const u32 held = static_cast<u32>(pool.bytes_open.load(std::memory_order_relaxed) / CHUNK_SIZE);
    const bool huge = chunks > 1 || wants_huge_pages(held);
    sys::madvise(address, usize{chunks} * CHUNK_SIZE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    if (!huge && wants_huge_pages(held + 1))
        upper_half.store(address + CHUNK_SIZE / 2, std::memory_order_relaxed);
    return huge && are_huge(address);
}

void choose_pool_pages_above(uptr address) {
    uptr half = upper_half.load(std::memory_order_relaxed);
    if (AEP_LIKELY(address - half >= CHUNK_SIZE / 2)) return;
    // Relaxed: one of several threads gets it, and no more is needed.
    if (!upper_half.compare_exchange_strong(half, 0, std::memory_order_relaxed)) return;
    if (!is_dense()) return;
    sys::madvise(half, CHUNK_SIZE / 2, MADV_HUGEPAGE);
    // Not without room: what asks for room for little would take a huge page.
    if (!are_huge(half)) sys::madvise(half, CHUNK_SIZE / 2, MADV_NOHUGEPAGE);
}

void note_pool_memory_used(usize bytes) { in_use.fetch_add(bytes, std::memory_order_relaxed); }

void note_pool_memory_unused(usize bytes) {
    usize had = in_use.load(std::memory_order_relaxed);
    while (!in_use.compare_exchange_weak(had, had > bytes ? had - bytes : 0,
                                         std::memory_order_relaxed)) {
    }
}

}  // namespace aep
