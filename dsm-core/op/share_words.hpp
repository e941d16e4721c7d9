// Purpose: the words of which the operations of sharing speak: names, ids, what a reference is to.
// Who calls it: the operations of sharing, and who asks for them.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

inline constexpr u32 SHARE_NAME_BYTES = 32;

/// A client's name, zero-terminated; empty: none.
struct ShareName {
    char text[SHARE_NAME_BYTES] = {};
    friend constexpr bool operator==(const ShareName&, const ShareName&) = default;
};

/// An inbox in a message or a call, mostly a client's main one: its number and its generation, so that an id never names another
/// one later; and its node, if other nodes can know it.
struct ShareId {
    u64 bits;
    u32 inbox() const { return static_cast<u32>(bits) & 0xffff; }
    u32 generation() const { return static_cast<u32>(bits >> 32); }
    /// era::NO_NODE: of a context that shares with no other node.
    u32 node() const { return (static_cast<u32>(bits >> 16) & 0xff) - 1; }
    /// The last bits of the node's generation.
    u32 node_generation() const { return static_cast<u32>(bits >> 24) & 0xff; }
    static constexpr ShareId make(u32 inbox, u32 generation, u32 node, u32 node_generation) {
        return {u64{generation} << 32 | (node_generation & 0xff) << 24 | ((node + 1) & 0xff) << 16 |
                inbox};
    }
    friend constexpr bool operator==(ShareId, ShareId) = default;
};

/// What a reference is to. A word's half wide, as the status before it.
enum class ObjectKind : u32 { object, group };

/// Whose memory it is that nobody refers to any more.
enum class Memory : u32 {
    kept,          // it is referred to, or its owner or its group takes it
    yours_to_free  // the caller's
};

}  // namespace aep
