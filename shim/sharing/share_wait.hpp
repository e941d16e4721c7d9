// Purpose: how a thread sleeps until something comes for this process: on a word of the context,
//          and between nodes, whose clients wake nobody here, in naps.
// Who calls it: sharing.cpp (calls that wait), share_fd.cpp (the thread behind the descriptor).
// Crash rule: no state.
#pragma once

#include <atomic>

#include "dsm-core/base/types.hpp"

namespace aep {

/// How long a sleep lasts at most while other nodes may help: they cannot end it.
inline constexpr u64 SHORTEST_NAP_NS = 20'000;
inline constexpr u64 LONGEST_NAP_NS = 1'000'000;

/// The nap after one of `nap`, which brought nothing.
inline u64 longer_nap(u64 nap) { return nap < LONGEST_NAP_NS ? nap + nap / 2 : nap; }

/// Nanoseconds of CLOCK_MONOTONIC.
u64 now_ns();

/// Sleeps while the word has the value, until `deadline` of CLOCK_MONOTONIC (0: for ever). 0: look
/// again; -ETIMEDOUT, -EINTR.
long sleep_while(const std::atomic<u32>& word, u32 value, u64 deadline);

}  // namespace aep
