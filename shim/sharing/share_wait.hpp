// Purpose: how a thread sleeps until something comes for this process: on a word of the context,
//          and between nodes, whose clients wake nobody here, in naps.
// Who calls it: sharing.cpp (calls that wait), share_fd.cpp (the thread behind the descriptor).
// Crash rule: no state.
#pragma once

#include <atomic>

#include "dsm-core/base/types.hpp"

namespace aep {

/// The naps of one wait, while other nodes may help, who cannot end a sleep: each as long as a small
/// part of what has been waited already. So what comes soon is seen soon, and who waits for long
/// costs little (docs/design/nodes.md has figures). How long is looked before, Patience says.
class Naps {
  public:
    Naps() = default;
    ~Naps();  // the thread's timers are as they were
    Naps(const Naps&) = delete;
    Naps& operator=(const Naps&) = delete;

    /// How long the next one lasts at most, at `now`. The first one makes the thread's timers exact.
    u64 next(u64 now);

    static constexpr u64 SHORTEST_NS = 20'000, LONGEST_NS = 2'500'000;
    static constexpr u64 PART = 32;

  private:
    u64 began_ = 0;
    long slack_ = 0;  // of the thread's timers before; 0: it was not changed
};

/// Nanoseconds of CLOCK_MONOTONIC.
u64 now_ns();

/// When a wait ends that begins at `begin`; 0: never.
inline u64 deadline_of(u64 begin, int timeout_ms) {
    return timeout_ms < 0 ? 0 : begin + static_cast<u64>(timeout_ms) * 1'000'000;
}

/// Sleeps while the word has the value, until `deadline` of CLOCK_MONOTONIC (0: for ever). 0: look
/// again; -ETIMEDOUT, -EINTR.
long sleep_while(const std::atomic<u32>& word, u32 value, u64 deadline);

}  // namespace aep
