// Purpose: see zeroing.hpp.
// Who calls it: see zeroing.hpp.
// Crash rule: see zeroing.hpp.
#include "shim/driver/zeroing.hpp"

#include <cstring>

#include "dsm-core/base/layout.hpp"
#include "shim/driver/process.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

namespace {

constexpr usize SLICE_PAGES = SLICE_SIZE / OS_PAGE_SIZE;
constexpr usize SPARSE_ABOVE = 8 * MiB;
constexpr usize WINDOW_SLICES = 64;  // looked at by one call: a chunk's worth, 1 KiB of stack

/// Whether any page of a slice is present.
bool is_present(const u8* pages) {
    for (usize i = 0; i < SLICE_PAGES; ++i)
        if ((pages[i] & 1) != 0) return true;
    return false;
}

void clear(uptr address, usize bytes) { std::memset(reinterpret_cast<void*>(address), 0, bytes); }

/// What is not present may be swapped out: giving it back makes it zero without reading it.
void forget(uptr address, usize bytes) {
    if (bytes != 0 && !backing().purge(address, bytes)) clear(address, bytes);
}

}  // namespace

void zero_recycled(uptr address, usize bytes) {
    if (bytes < SPARSE_ABOVE || backing().commit != nullptr) return clear(address, bytes);
    bytes = round_up(bytes, SLICE_SIZE);  // so large a block has its slices to itself
    u8 pages[WINDOW_SLICES * SLICE_PAGES];
    const uptr end = address + bytes;
    uptr absent = address;  // from here to `at` nothing is present
    for (uptr at = address; at < end;) {
        const usize left = end - at;
        const usize window = left < WINDOW_SLICES * SLICE_SIZE ? left : WINDOW_SLICES * SLICE_SIZE;
        const bool known = !sys::failed(sys::mincore(at, window, pages));
        for (usize i = 0; i < window / SLICE_SIZE; ++i, at += SLICE_SIZE) {
            if (known && !is_present(pages + i * SLICE_PAGES)) continue;
            forget(absent, at - absent);
            clear(at, SLICE_SIZE);
            absent = at + SLICE_SIZE;
        }
    }
    forget(absent, end - absent);
}

}  // namespace aep
