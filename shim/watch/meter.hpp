// Purpose: which of a thread's allocations are watched: after so many bytes one is a sample of the heap profile, after
//          so many allocations one is guarded. Both distances are drawn at random.
// Who calls it: driver/watched.cpp, where blocks come to hand: not for each allocation.
// Crash rule: private to the process.
#pragma once

#include <atomic>

#include "dsm-core/base/types.hpp"

namespace aep {

/// What is watched in this process, a bit each. 0: nothing, and then nothing of this folder is reached.
enum : u32 { WATCH_PROFILE = 1, WATCH_GUARD = 2 };

/// One for the process. Others of the same user may write `on` and `rate` (aep profile), at any time.
struct Watch {
    std::atomic<u32> on;          // WATCH_...
    std::atomic<u32> guard_rate;  // one allocation in so many is guarded
    std::atomic<u64> rate;        // bytes between samples, on average; at least 1
};
extern Watch watch __attribute__((visibility("hidden")));
inline constexpr u64 DEFAULT_SAMPLE_RATE = 512 * KiB;

/// One load; no order: a thread notices some time.
inline bool is_watching() { return watch.on.load(std::memory_order_relaxed) != 0; }

/// A thread's distances. All zero: a thread that has drawn none yet.
class Meter {
  public:
    /// How many of `count` blocks of `size` bytes may be handed out unwatched. Fewer: they are, and the one after them
    /// is to be watched; if none, that is due now.
    u32 afford(u32 count, usize size);
    /// How many bytes of allocations, `most` at most, may be handed out unasked. They are paid for later, by spend().
    i64 may_spend(i64 most) const;
    /// Of what may_spend() said, that has been handed out.
    void spend(i64 bytes);
    /// WATCH_... of what the thread's next allocation is to be; 0: nothing.
    u32 due() const { return due_; }
    /// The same, and draws the next distances. None while the thread looks at its stack.
    u32 take_due();
    /// While it looks at its stack, whose unwinder might allocate.
    void set_busy(bool busy) { busy_ = busy; }

  private:
    void draw_bytes();
    void draw_allocations();
    u64 next_random();
    void begin();

    i64 bytes_left_;
    u64 random_;  // 0: none yet
    u32 allocations_left_;
    u8 due_;
    bool busy_;
};
extern __thread Meter meter __attribute__((tls_model("initial-exec"), visibility("hidden")));

}  // namespace aep
