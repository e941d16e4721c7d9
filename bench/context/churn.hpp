// Purpose: how a client that performs operations without a pause tells another process how it gets
//          on: a page in shared memory.
// Who calls it: sharing.cpp writes it, deaths.cpp reads it.
// Crash rule: whoever writes it is killed at any moment; the count comes after what it counts.
#pragma once

#include <atomic>
#include <cstdint>

namespace aep::bench {

/// What an operation takes at most that nothing holds up, ns.
inline constexpr std::uint64_t LONG_NS = 500'000;

struct Churn {
    static constexpr unsigned KEPT = 256;
    std::atomic<std::uint64_t> operations;
    std::atomic<std::uint64_t> held_up;  // so many took longer than LONG_NS
    std::uint64_t ended_ns[KEPT];        // when the latest of those ended: CLOCK_MONOTONIC
};

}  // namespace aep::bench
