// Purpose: what aep-corosync and the daemon that has started it say to each other, over a socket that
//          keeps messages apart.
// Who calls it: tools/corosync/main.cpp, tools/daemon/corosync_plug.cpp.
// Crash rule: no state; who reads a message checks it as if anybody had written it.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

inline constexpr u32 VIEW_MAGIC = 0x3150'4541;  // "AEP1"
inline constexpr u32 MOST_HOSTS = 64;           // with the ids 1 to 64
inline constexpr int VIEW_SOCKET = 3;           // the helper's descriptor
inline constexpr u64 VIEW_PERIOD_MS = 200;      // so often it is said, whatever happens

/// From the daemon, once: the pool's closed process group.
struct GroupMessage {
    u32 magic;
    u8 uuid[16];
};

/// From the helper, when it has to end: why, in at most so many bytes, and no more.
inline constexpr usize LONGEST_WHY = 512;

/// From the helper: how corosync sees the cluster. Bit i - 1 stands for the node with the id i.
struct ViewMessage {
    u32 magic;
    u32 own;        // corosync's id of this node; more than MOST_HOSTS: it cannot be a pool's node
    u32 quorate;    // 0 or 1
    u32 joined;     // 1: in the group
    u64 present;    // nodes of this partition
    u64 members;    // those whose daemon is in the group
    u64 silent_ms;  // since when corosync has not answered; of a daemon in the group
    u64 token_ms;   // how long a silent node is waited for, and then for the others to agree
    u64 consensus_ms;
    char cluster[64];
    char hosts[MOST_HOSTS][64];  // names of the nodes; empty: it has none
};

}  // namespace aep
