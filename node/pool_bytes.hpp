// Purpose: reads a few bytes of what lies in the pool's chunks, for people: the host has no chunk mapped.
// Who calls it: the survey of objects.
// Crash rule: reads only.
#pragma once

#include "node/node_pool.hpp"

namespace aep {

/// Copies `bytes` from that address of the heap window, which a client may have chosen, to `to`. False, and nothing is copied:
/// they do not lie in one chunk of the pool, or cannot be read (the file was cut short, another node's machine is gone). What
/// was read may be of several moments. Cost: a system call; on a device three.
bool read_pool(const NodePool& pool, u64 address, void* to, usize bytes);

}  // namespace aep
