// Purpose: how much of the memory that is free and still present goes back to the system, and when:
//          only what nobody has needed for a whole window, and of that a little at a time, along a
//          smooth curve.
// Who calls it: the arena, which tells it what becomes dirty and what is taken; tests with a clock
// of
//               their own.
// Crash rule: changes under the arena's lock, inside operations. A wrong count makes purging late
// or
//             early, never wrong.
//
// Time passes in epochs, EPOCHS of them a window. For each the fewest dirty slices at any moment of
// it are kept: the least of these over a window is what was there all the time without being
// needed. A program that comes back in bursts takes its memory again and again, so that it counts
// as needed as long as the pauses are shorter than the window. What is newly found unneeded is
// released over the window that follows, slowly at first and at the end (the curve of jemalloc's
// decay). Nobody looks while a program sleeps, unless it has the background thread: the first look
// after a long pause begins the curve, it does not end it.
#pragma once

#include <atomic>

#include "dsm-core/base/types.hpp"

namespace aep {

class Decay {
  public:
    static constexpr u32 EPOCHS = 16;
    static constexpr u64 NEVER = ~u64{0};

    /// Zeroed memory plus init() has nothing to do.
    void init() { set_look(NEVER); }

    /// So many further slices are dirty. `now` in ms.
    void gave(u32 slices, u64 now) {
        const u32 before = dirty();
        if (epoch_end_ == 0) epoch_end_ = now;
        set_dirty(before + slices);
        if (before == 0 && slices != 0) set_look(now > epoch_end_ ? now : epoch_end_);
    }

    /// So many dirty ones are in use again.
    void took(u32 slices) {
        const u32 left = dirty() - slices;
        set_dirty(left);
        if (left < least_[epoch_]) least_[epoch_] = left;
        if (left < owed_) owed_ = left;
        if (left < unneeded_) unneeded_ = left;
        if (left == 0) set_look(NEVER);
    }

    /// How many slices are to be purged now, with a window of `window` ms; 0: all that are dirty.
    u32 due(u64 now, u64 window);

    /// So many of those that were due are withdrawn.
    void purged(u32 slices, u64 now);

    /// For any thread.
    u32 dirty() const { return dirty_.load(std::memory_order_relaxed); }

    /// When it is time to look again, in ms; NEVER: when memory is given. For any thread.
    u64 next_look() const { return look_.load(std::memory_order_relaxed); }

  private:
    /// Begins the epoch that `now` lies in.
    void advance(u64 now, u64 length);
    // relaxed, both: hints for others; whoever acts on them does so under the arena's lock.
    void set_look(u64 at) { look_.store(at, std::memory_order_relaxed); }
    void set_dirty(u32 slices) { dirty_.store(slices, std::memory_order_relaxed); }
    void choose_look(u64 now) { set_look(dirty() == 0 ? NEVER : owed_ != 0 ? now : epoch_end_); }

    std::atomic<u64> look_;
    u64 epoch_end_;           // ms
    std::atomic<u32> dirty_;  // slices
    u32 owed_;                // due, and not yet withdrawn
    u32 unneeded_;         // what the last look found unneeded, less what was purged or taken since
    u32 epoch_;            // index of the present one
    u32 least_[EPOCHS];    // fewest dirty slices in that epoch, without what was purged since
    u32 surplus_[EPOCHS];  // by how much the unneeded grew in that epoch
};

}  // namespace aep
