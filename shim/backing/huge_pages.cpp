// Purpose: see huge_pages.hpp.
// Who calls it: see huge_pages.hpp.
// Crash rule: see huge_pages.hpp.
#include "shim/backing/huge_pages.hpp"

#include <atomic>

#include "dsm-core/base/layout.hpp"

namespace aep {
namespace {

u32 huge_from = MAX_CHUNKS;
std::atomic<u32> heaps = 0;

}  // namespace

void use_huge_pages(usize from) {
    const usize chunks = from / CHUNK_SIZE;
    huge_from = chunks < MAX_CHUNKS ? static_cast<u32>(chunks) : MAX_CHUNKS;
}

void serve_heaps(u32 count) { heaps.store(count, std::memory_order_relaxed); }

bool wants_huge_pages(u32 held) {
    // Thousands of threads that have little each would have huge pages for each block.
    return held > huge_from && held > heaps.load(std::memory_order_relaxed);
}

}  // namespace aep
