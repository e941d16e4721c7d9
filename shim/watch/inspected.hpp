// Purpose: where the state of this process lies, for other processes of the same user: `aep profile` reads and writes
//          the watch, gdb's commands read the heap. The library exports one as `aep_inspected`.
// Who calls it: preload/watching.cpp fills it in; tools/cli/profiled_process.cpp and tools/gdb read it.
// Crash rule: no state but addresses.
//
// Nothing is given that is not there already: who can read and write a process's memory can do so without it.
#pragma once

#include "shim/watch/meter.hpp"
#include "shim/watch/samples.hpp"

namespace aep {

struct Inspected {
    static constexpr u64 MAGIC = 0x0031'4545'5350'4541;  // "AEPSEE1"
    u64 magic;
    u32 bytes;       // of this
    u32 site_bytes;  // of a SampleSite
    u32 most_sites, most_frames;
    Watch* watch;
    SampleTables* samples;
    uptr* domain;                       // the process's domain
    std::atomic<usize>* window_slices;  // of the heap window: how many may hold blocks
};

}  // namespace aep
