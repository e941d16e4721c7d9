// Purpose: where a pool keeps what its nodes share, how large that is, and which of the pool's
//          chunks have living objects in them.
// Who calls it: whoever creates, verifies or reclaims a pool; nodes, for their tables.
// Crash rule: no state; reads only.
#pragma once

#include "dsm-core/era/format.hpp"
#include "dsm-core/pool/superblock.hpp"

namespace aep::era {

inline constexpr usize MIN_SHARED_POOL_BYTES = 64 * MiB;
inline constexpr u32 NO_NODE = 0xffff'ffff;
inline constexpr u32 POOL_NODES = 64;  // that can share a pool at most
inline constexpr u32 MIN_LANES = 2;    // of each: one for clients, the last one for the host

/// What can be chosen for a new pool. 0: by its size.
struct Sizes {
    u32 nodes = 8;     // that may share it
    u32 lanes = 0;     // of each: transactions at once, one of them the host's
    u32 objects = 0;   // of each: that it may share with other nodes
    u32 messages = 0;  // under way from one node to another
    u32 clients = 0;   // of each: that clients of other nodes can find
};
inline constexpr u32 MOST_OBJECTS = 1 << 20;  // of a node
inline constexpr u32 MOST_MESSAGES = 1 << 16;
inline constexpr u32 MOST_CLIENTS = 1 << 16;

/// The shape for a new pool of `pool_bytes`; all zero: too small to be shared between nodes. Without choice about
/// 1.5 % of the pool's addresses, of which a node uses what is its own.
constexpr Shape shape_for(usize pool_bytes, const Sizes& sizes = {}) {
    if (pool_bytes < MIN_SHARED_POOL_BYTES) return {};
    constexpr u32 MOST = 64 * 1024, FEW = 8, LANES = 64;
    const u32 nodes = sizes.nodes != 0 ? sizes.nodes : 1;
    u32 objects = 1024;  // of each node: one for each 64 KiB of the pool
    while (objects < MOST && usize{objects} * 64 * KiB < pool_bytes) objects *= 2;
    u32 messages = pool_bytes < 256 * MiB ? 256 : 1024;
    // What they take grows with the square of the nodes: many have less of each.
    for (u32 n = FEW; n < nodes; n *= 2) {
        if (objects > 1024) objects /= 2;
        if (messages > 64) messages /= 2;
    }
    const u32 lanes = MAX_WRITERS / nodes < LANES ? MAX_WRITERS / nodes : LANES;
    const auto chosen = [](u32 size, u32 otherwise) { return size != 0 ? size : otherwise; };
    const u32 all = nodes * chosen(sizes.objects, objects);
    return {.nodes = nodes,
            .lanes = chosen(sizes.lanes, lanes),
            .refs = all,  // number i is for object i
            .objects = all,
            .slots = chosen(sizes.messages, messages),
            .clients = chosen(sizes.clients, 1024)};
}

/// Bytes of the region for a shape.
constexpr usize region_bytes(const Shape& shape) {
    return shape.nodes == 0 ? 0 : round_up(layout_of(shape).bytes, OS_PAGE_SIZE);
}

/// Whether a pool of `pool_bytes` has room for what a shape takes, and each number is one that nodes can work with.
constexpr bool fits(const Shape& shape, usize pool_bytes) {
    return valid(shape) && shape.nodes <= POOL_NODES && shape.lanes >= MIN_LANES &&
           shape.objects <= shape.nodes * MOST_OBJECTS && shape.slots <= MOST_MESSAGES &&
           shape.clients != 0 && shape.clients <= MOST_CLIENTS &&
           region_bytes(shape) <= pool_bytes / 2;
}

/// Checks what a verified superblock says of the region.
inline PoolFault verify_region(const Superblock& s) {
    const bool sound =
        s.era.nodes == 0 ? s.era_bytes == 0
                         : valid(s.era) && s.era.nodes <= POOL_NODES && s.era.lanes >= MIN_LANES &&
                               s.era.refs == s.era.objects && s.era.objects % s.era.nodes == 0 &&
                               s.era_bytes == region_bytes(s.era);
    if (sound) return {};
    return {"era_bytes", offsetof(Superblock, era_bytes), s.era_bytes, region_bytes(s.era),
            "it was created by another version of the library, or the file is damaged: let a new "
            "one be created"};
}

/// The tables in a mapping of the pool file that begins at offset 0. The chunks are the pool's
/// business.
inline Tables tables_in(void* mapped, const PoolShape& s) {
    return tables_at(static_cast<u8*>(mapped) + s.era_offset, s.era);
}

/// Whether node `i` ever took part: if not, nothing of its own was ever written, or need be read.
inline bool was_used(const Tables& t, u32 i) { return t.node(i).load() != 0; }

/// Whether node `i` takes part now, as far as anybody has declared.
inline bool is_live(const Tables& t, u32 i) {
    return NodeWord{t.node(i).load()}.state() == NodeState::live;
}

/// Whether the entry is an object that somebody refers to, or that is being freed, or a part of
/// one.
inline bool is_living(const Tables& t, const ObjectEntry& entry) {
    const u64 root = entry.root.load();
    if (root == 0) return entry.count.load() != FREE_OBJECT.bits;
    if (root > t.shape.objects) return false;
    const ObjectEntry& whole = t.object(static_cast<u32>(root - 1));
    return whole.count.load() != FREE_OBJECT.bits &&
           whole.serial.load() == entry.root_serial.load();
}

/// Calls visit(first, end) with the chunks of every living object, of `chunk_count` there are. What
/// dies meanwhile may be missing; what comes to life may be, too: its node is alive, so its chunks
/// are in use. Cost: a look at each object of nodes that ever took part.
template <class Visit>
void each_living_span(const Tables& t, u32 chunk_count, Visit&& visit) {
    for (u32 node = 0; node < t.shape.nodes; ++node) {
        if (!was_used(t, node)) continue;
        const u32 first = t.first_object(node);
        for (u32 i = first; i < first + t.objects_per_node(); ++i) {
            const ObjectEntry& entry = t.object(i);
            if (entry.serial.load() == 0 || !is_living(t, entry)) continue;
            const u64 begin = entry.address.load() - HEAP_BASE;
            const u64 bytes = entry.bytes.load();
            const u64 window = u64{chunk_count} * CHUNK_SIZE;
            if (begin < window && bytes != 0 && bytes <= window - begin) {
                visit(static_cast<u32>(begin >> CHUNK_SHIFT),
                      static_cast<u32>((begin + bytes - 1) >> CHUNK_SHIFT) + 1);
            }
        }
    }
}

}  // namespace aep::era
