// Purpose: guarded blocks: each lies alone in a slot between OS pages without access, and when it is freed the slot
//          loses its access, too, until no other slot has waited longer. So an overrun or a use after free faults, and
//          is reported with the stacks of the allocation, the free and the fault. After GWP-ASan.
// Who calls it: driver/watched.cpp for one allocation in many; driver/outside.cpp for what lies outside the window.
// Crash rule: private to the process. No locks: a slot that another thread is at while the process forks stays unused
//             in the child.
//
// What two at once may see; a slot's state says whose it is:
//
//   allocate | allocate   two slots; while one maps all of them the other guards nothing
//   allocate | free       a slot is taken when it is unused or freed, and is neither before its free is over
//   free | free           one changes the slot; the other finds no live block, and says so
//   fault | free          the report names the free, or takes the block for live: it was, a moment ago
//   fault | allocate      the report may mix the slot's former block with its next
#pragma once

#include <atomic>

#include "shim/watch/call_stack.hpp"

namespace aep {

/// The largest block, and the largest alignment.
inline constexpr usize MOST_GUARDED = 4 * KiB;
/// How many there may be at a time, those included that wait after their free.
inline constexpr u32 GUARD_SLOTS = 32;

/// A block that was found to be misused.
enum class Misuse : u8 { freed_twice, freed_inside, overrun_found };

/// A block of `size` bytes at a multiple of `alignment` (a power of two), at the begin or the end of its slot; null: all
/// slots are in use, it is too large, or there is no memory. Its bytes are zero. Any thread, and signal handlers. The
/// first one maps the slots and takes SIGSEGV. Cost: one or two system calls, and the stack.
void* guard_allocate(usize size, usize alignment);

namespace detail {
extern std::atomic<uptr> guard_base __attribute__((visibility("hidden")));  // 0: there are none
}
inline constexpr usize GUARD_STRIDE = 2 * MOST_GUARDED;
inline constexpr usize GUARD_BYTES = GUARD_SLOTS * GUARD_STRIDE + MOST_GUARDED;

/// Whether the address lies among the slots.
inline bool guard_owns(const void* p) {
    const uptr base = detail::guard_base.load(std::memory_order_relaxed);
    return base != 0 && reinterpret_cast<uptr>(p) - base < GUARD_BYTES;
}

/// Bytes of the live block that begins there: as many as were asked for; 0: none does.
usize guard_size(const void* p);

/// free. False: no live block begins there; it was reported, as was one whose end was written beyond.
bool guard_free(void* p);

}  // namespace aep
