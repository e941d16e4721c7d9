// Purpose: the pool file's format: superblock, node table, chunk table, then the chunks. Every
//          noun of the pool is defined here, a comment a field.
// Who calls it: dsm-core/pool, and shim/ which creates, opens and maps pool files.
// Crash rule: the superblock is written once, before the file has a name. A node entry is written
//             only by the holder of the node's lock. A chunk word changes by one
//             compare-and-swap: a kill leaves it free or owned; its mark that memory has failed
//             stays whatever else changes.
//
//   offset 0               superblock, 4 KiB, constant after creation
//   4 KiB                  PoolGrowth, one line: how much the pool has grown
//   nodes_offset           node table: one PoolNodeEntry for each process that owns chunks
//   chunk_words_offset     chunk table: one ChunkWord a chunk
//   era_offset             what nodes share by reference (dsm-core/era), in pools from 64 MiB on
//   chunks_offset          chunk 0 (a multiple of 4 MiB), chunk 1, … up to the end of the file
//
// All tables are made for the room that the pool may grow to, and all of it is mapped from the beginning; only what is in the
// file is used (PoolTables::chunks_there).
#pragma once

#include <atomic>

#include "dsm-core/base/fnv1a.hpp"
#include "dsm-core/base/layout.hpp"

namespace aep {

inline constexpr u64 POOL_MAGIC = 0x004c'4f4f'5050'4541;  // "AEPPOOL\0"
inline constexpr u32 POOL_VERSION = 6;
inline constexpr usize SUPERBLOCK_BYTES = 4 * KiB;

/// How much of everything the nodes that share objects have; dsm-core/era lays it out. All zero:
/// the pool is too small for that.
struct EraShape {
    u32 nodes = 0;    // machines, or contexts that stand for them
    u32 lanes = 0;    // of each node: transactions at once
    u32 refs = 0;     // of each node
    u32 objects = 0;  //
    u32 slots = 0;    // messages in each ring
    u32 clients = 0;  // of each node that others can find
    bool operator==(const EraShape&) const = default;
};

/// Whether the caches of all machines that map the pool are kept coherent for it by the hardware.
enum class Coherence : u32 {
    unsaid = 0,  // not in a superblock
    yes = 1,     // or one machine alone maps it
    no = 2,      // only nodes of one machine at a time can share objects
};

inline constexpr u32 MIN_LEASE_MS = 20, MAX_LEASE_MS = 3'600'000, DEFAULT_LEASE_MS = 3000;

/// What all nodes of a pool must hold alike. As a wish, 0 and empty: not said.
struct PoolTerms {
    u32 lease_ms = 0;  // a node that gives no sign for so long is suspect
    Coherence coherent = Coherence::unsaid;
    char cluster[32] = {};  // whose pool it is: printable, the rest zeros; empty: of no cluster
    bool operator==(const PoolTerms&) const = default;
};
static_assert(sizeof(PoolTerms) == 40);

/// Offset 0 of the file. Constant after creation.
struct Superblock {
    u64 magic;               // POOL_MAGIC
    u32 version;             // POOL_VERSION
    u32 superblock_bytes;    // SUPERBLOCK_BYTES
    u64 layout_hash;         // POOL_LAYOUT_HASH of the program that created it
    u8 uuid[16];             // random: tells this pool from a later one at the same path
    u64 file_bytes;          // size of the file when it was made
    u64 chunk_bytes;         // CHUNK_SIZE
    u32 chunk_count;         // chunks in the file when it has all of its room
    u32 node_count;          // entries in the node table
    u64 nodes_offset;        // where the tables and the chunks begin
    u64 chunk_words_offset;  //
    u64 chunks_offset;       //
    u64 heap_base;           // address of chunk 0 in every process
    u64 era_offset;          // the part of dsm-core/era, and its size
    u64 era_bytes;           //
    EraShape era;            //
    PoolTerms terms;         //
    u64 room_bytes;          // that the file may grow to
    u8 reserved[3904];       // zero
    u64 checksum;            // over all bytes before it
};
static_assert(sizeof(Superblock) == SUPERBLOCK_BYTES);

/// What changes when the pool grows: after the superblock, on a line of its own. One store makes it larger for everybody.
struct PoolGrowth {
    std::atomic<u64> chunks;  // more than when it was made; only grows
    u64 reserved[7];          // zero
};
static_assert(sizeof(PoolGrowth) == CACHE_LINE);

/// What of a superblock says where the tables lie. Whoever has verified one keeps this in memory
/// that nobody else writes, and asks the pool no more.
struct PoolShape {
    u64 nodes_offset;
    u64 chunk_words_offset;
    u64 era_offset;
    u32 node_count;
    u32 chunk_count;   // with all room
    u32 first_chunks;  // when it was made
    EraShape era;
    bool operator==(const PoolShape&) const = default;
};
constexpr PoolShape shape_of(const Superblock& s) {
    return {.nodes_offset = s.nodes_offset,
            .chunk_words_offset = s.chunk_words_offset,
            .era_offset = s.era_offset,
            .node_count = s.node_count,
            .chunk_count = s.chunk_count,
            .first_chunks = static_cast<u32>((s.file_bytes - s.chunks_offset) / CHUNK_SIZE),
            .era = s.era};
}

enum class PoolNodeState : u8 {
    free = 0,        // nobody's; owns no chunk
    live = 1,        // taken; whether its process lives is told by the node's lock
    reclaiming = 2,  // its process is dead, the holder of its lock is giving its chunks back
};

/// state | who reclaims it << 8 | generation << 32. The generation grows each time the entry is
/// taken.
struct PoolNodeWord {
    u64 bits;
    PoolNodeState state() const { return static_cast<PoolNodeState>(bits & 0xff); }
    u32 generation() const { return static_cast<u32>(bits >> 32); }
    /// Which node of machines is reclaiming it; 0: a process of this system, by the lock alone.
    u32 by() const { return static_cast<u32>(bits >> 8) & 0xff'ffff; }
    bool valid() const {
        return (bits & 0xff) <= 2 && (by() == 0 || state() == PoolNodeState::reclaiming);
    }
    static constexpr PoolNodeWord make(PoolNodeState s, u32 generation, u32 by = 0) {
        return {static_cast<u64>(s) | u64{by} << 8 | u64{generation} << 32};
    }
    /// A node of dsm-core/era as reclaimer: 1 + the node, 16 bits of its generation.
    static constexpr u32 reclaimer(u32 node, u32 generation) {
        return (node + 1) | (generation & 0xffff) << 8;
    }
    static constexpr u32 node_of(u32 reclaimer) { return (reclaimer & 0xff) - 1; }
};

/// One process that takes chunks (or the descendants that still map its frozen chunks). All but
/// `word` is only told to people: after a reboot or the reuse of a pid nothing depends on it.
struct PoolNodeEntry {
    std::atomic<u64> word;  // PoolNodeWord
    u64 start_time;      // of the process, in clock ticks since boot (field 22 of /proc/PID/stat)
    u32 pid;             // in the pid namespace of the process
    u32 era_node;        // 1 + the node of dsm-core/era that it is; 0: none
    u8 boot_id[16];      // of the system that the process runs on
    char name[16];       // of the process, as in /proc/PID/comm
    u64 era_generation;  // of that node
};
static_assert(sizeof(PoolNodeEntry) == 64);

enum class ChunkState : u8 {
    free = 0,   // nobody's, and every byte of it reads as zero
    owned = 1,  // its node's
    kept = 2,   // a dead node's: nobody's until the objects in it that other nodes hold are gone
};

inline constexpr u32 MAX_NODES = 4096;

/// state | mark << 7 | node << 8 | generation of the node << 32.
struct ChunkWord {
    /// The mark: memory in it has failed. Who has the chunk keeps it; given back it is nobody's, and nobody gets it.
    static constexpr u64 FAILED = 0x80;

    u64 bits;
    bool has_failed() const { return (bits & FAILED) != 0; }
    /// What it says but for the mark.
    ChunkWord unmarked() const { return {bits & ~FAILED}; }
    ChunkState state() const { return static_cast<ChunkState>(bits & 0x7f); }
    u32 node() const { return static_cast<u32>(bits >> 8) & 0xff'ffff; }
    u32 generation() const { return static_cast<u32>(bits >> 32); }
    bool valid(u32 node_count) const {
        const u64 said = unmarked().bits;
        return said == 0 || said == static_cast<u64>(ChunkState::kept) ||
               (state() == ChunkState::owned && node() < node_count);
    }
    static constexpr ChunkWord owned(u32 node, u32 generation) {
        return {static_cast<u64>(ChunkState::owned) | u64{node} << 8 | u64{generation} << 32};
    }
};
inline constexpr ChunkWord FREE_CHUNK{0};
inline constexpr ChunkWord KEPT_CHUNK{static_cast<u64>(ChunkState::kept)};
inline constexpr ChunkWord RETIRED_CHUNK{ChunkWord::FAILED};  // nobody's, and nobody gets it

static_assert(std::atomic<u64>::is_always_lock_free && sizeof(std::atomic<u64>) == sizeof(u64));

/// Hash over all that two programs must agree on to share a pool: sizes, offsets of fields, state
/// values, addresses.
constexpr u64 pool_layout_hash() {
    const u64 facts[] = {
        POOL_VERSION,
        sizeof(Superblock),
        offsetof(Superblock, file_bytes),
        offsetof(Superblock, chunks_offset),
        offsetof(Superblock, era),
        offsetof(Superblock, terms),
        offsetof(Superblock, room_bytes),
        sizeof(PoolGrowth),
        offsetof(PoolTerms, cluster),
        static_cast<u64>(Coherence::no),
        offsetof(Superblock, checksum),
        sizeof(PoolNodeEntry),
        offsetof(PoolNodeEntry, boot_id),
        offsetof(PoolNodeEntry, name),
        static_cast<u64>(PoolNodeState::live),
        static_cast<u64>(PoolNodeState::reclaiming),
        static_cast<u64>(ChunkState::owned),
        static_cast<u64>(ChunkState::kept),
        ChunkWord::FAILED,
        ChunkWord::owned(1, 1).bits,
        PoolNodeWord::make(PoolNodeState::live, 1).bits,
        CHUNK_SIZE,
        HEAP_BASE,
    };
    return fnv1a(facts);
}
inline constexpr u64 POOL_LAYOUT_HASH = pool_layout_hash();

}  // namespace aep
