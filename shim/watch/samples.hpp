// Purpose: the heap profile: where the sampled allocations were made, how many of them there were and how many live.
// Who calls it: driver/watched.cpp at a sampled allocation and its free; profile_text.hpp and aep profile read it.
// Crash rule: private to the process. No locks: what a thread leaves half done that a fork does not copy is a place
//             of the tables that stays unused.
//
// What two at once may see:
//
//   note | note, one stack     one site, or two of the same stack, which readers add up
//   note | note, one place     one has it, the other goes on to the next place or level
//   note | forget              never of one address: a block is freed after it was handed out
//   forget | forget            one takes the sample and counts it, the other finds none: a double free
//   note, forget | readers     of another process too: a site that is ready is whole; its counts are of some moment each
//
// Two tables in memory of the process's own: *sites*, a call stack and a size each, which are never taken away; and
// the *live* samples by their addresses, in levels of which each is twice as large as the one before.
#pragma once

#include <atomic>

#include "shim/watch/call_stack.hpp"

namespace aep {

/// Where samples of one size come from. Fixed, for readers of other processes: aep profile, gdb.
struct SampleSite {
    std::atomic<u32> ready;  // 1: what follows is written, but for the counts
    u32 next;                // in the chain of its hash: number + 1 of the next site; 0: none
    u32 depth;
    u32 unused;
    u64 size;                 // bytes of each allocation
    std::atomic<u64> made;    // samples so far
    std::atomic<u64> freed;   // of these
    u64 frames[MOST_FRAMES];  // the innermost first
};

inline constexpr u32 MOST_SITES = 1 << 17;

struct SampleTables {
    std::atomic<SampleSite*> sites;  // MOST_SITES; null: nothing was ever sampled
    std::atomic<u32> count;          // of sites; may be above MOST_SITES
    std::atomic<u64> omitted;        // samples that found no place
};
extern SampleTables sample_tables __attribute__((visibility("hidden")));

/// A sample at `address`, which is no live sample's. Any thread, and signal handlers. The first maps the tables.
void note_sample(uptr address, usize size, const CallStack& stack);

/// That is no sample any more: it is about to be freed. 0: it was none; else the bytes it was noted with.
usize forget_sample(uptr address);

/// Bytes that a sample stands for: one of so many bytes is noted with the probability 1 - exp(-size / rate).
double weight_of_sample(u64 size, u64 rate);

}  // namespace aep
