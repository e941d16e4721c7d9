// Purpose: see pool_pages.hpp.
// Who calls it: see pool_pages.hpp.
// Crash rule: see pool_pages.hpp.
#include "shim/backing/pool_pages.hpp"

#include <atomic>

#include "shim/backing/headroom.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/backing/populate.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

constexpr usize HUGE_PAGE = 2 * MiB;

/// A process that uses less than this has small pages; beyond it, and for long runs, huge pages
/// where the mount gives them on request (tmpfs huge=advise).
constexpr usize HUGE_PAGES_ABOVE = HUGE_PAGE / 2;

std::atomic<usize> in_use{0};

/// Where the upper half of the last chunk that was begun with small pages lies; 0: there is none,
/// or something of it was committed already.
std::atomic<uptr> upper_half{0};

/// Whether this process uses much memory, and most of what it has but for the last `fresh` bytes:
/// thousands of threads that have little each would have huge pages for each block.
bool is_dense(usize fresh) {
    const usize used = in_use.load(std::memory_order_relaxed);
    const usize open = pool.bytes_open.load(std::memory_order_relaxed) - fresh;
    return used >= HUGE_PAGES_ABOVE && used >= open / 2;
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
    if (pool.file.memory == PoolMemory::device) {
        return true;
    }
    const bool huge = chunks > 1 || is_dense(CHUNK_SIZE);
    sys::madvise(address, usize{chunks} * CHUNK_SIZE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    if (!huge) upper_half.store(address + CHUNK_SIZE / 2, std::memory_order_relaxed);
    return huge && are_huge(address);
}

void choose_pool_pages_above(uptr address) {
    uptr half = upper_half.load(std::memory_order_relaxed);
    if (AEP_LIKELY(address - half >= CHUNK_SIZE / 2)) return;
    // Relaxed: one of several threads gets it, and no more is needed.
    if (!upper_half.compare_exchange_strong(half, 0, std::memory_order_relaxed)) return;
    if (!is_dense(CHUNK_SIZE / 2)) return;
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
