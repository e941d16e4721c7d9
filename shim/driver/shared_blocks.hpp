// Purpose: what the allocator asks about blocks that others may refer to. The layer above, which
//          shares them, answers; the allocator does not know it.
// Who calls it: allocator.cpp and reallocate.cpp on slow paths; sharing/ provides the answers.
// Crash rule: no state but a pointer of the process.
#pragma once

#include <atomic>

#include "dsm-core/base/types.hpp"

namespace aep {

/// What dropping a reference came to.
enum class Dropped {
    no_export,  // nobody but its owner refers to it
    kept,       // others do
    last,       // nobody does any more: its memory is the caller's to free
    not_held,   // the caller has no reference
};

/// Of any address, from any thread; below a signal handler that interrupted the thread's slow path,
/// too.
struct SharedBlocks {
    /// Whether others may refer to an own live block; hardly ever if they do not, and always if they do. Takes no lock.
    bool (*may_be_referred_to)(const void* p);
    /// One reference of this process less.
    Dropped (*drop)(void* p);
    /// Bytes of an object that this process holds; 0: it holds none there.
    usize (*held_bytes)(const void* p);
    /// Whether anybody refers to it.
    bool (*is_referred_to)(const void* p);
    /// Frees what others have let go of; cheap when there is nothing.
    void (*collect)();
};

/// Null: this process shares nothing. Set when it begins to, and cleared in a fork child.
extern std::atomic<const SharedBlocks*> shared_blocks __attribute__((visibility("hidden")));

/// The answers, if there can be any.
inline const SharedBlocks* sharing_answers() {
    // acquire: what whoever answers has set up before.
    return shared_blocks.load(std::memory_order_acquire);
}

}  // namespace aep
