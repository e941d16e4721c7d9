// Purpose: the algorithms on a mapped pool's node and chunk tables: take chunks, give them back,
//          find a node's.
// Who calls it: shim/backing/pool_backing.cpp, shim/backing/reclaim.cpp.
// Crash rule: every change of a chunk word is one compare-and-swap; a run
//             claimed in part belongs to its node like any other chunk, and comes back when the
//             node is reclaimed.
//
// What two at once may see, of any processes: one compare-and-swap on a chunk's word decides.
//
//   claim | claim                each chunk is one's; of runs that overlap both may fail
//   claim | free                 taken, and seen clean; or overlooked by a search that has passed it
//   free, keep | free, keep      by one owner's word: one of them, the other is told no
//   claim_kept | claim_kept      one of them; so of retired ones
//   mark | all                   whatever the word says then, it says it marked; a claim that comes just before has the chunk
//   mark | mend                  the mark stays, or was for what has been mended
//   chunk, node, next | all      as it was a moment ago
//   grow | grow                  the larger one; both may say that they have done it
//   grow | claim                 what is new is taken, or overlooked once more
#pragma once

#include "dsm-core/pool/superblock.hpp"

namespace aep {

/// The tables of a mapped pool whose superblock has been verified.
struct PoolTables {
    PoolNodeEntry* nodes = nullptr;
    std::atomic<u64>* words = nullptr;
    PoolGrowth* growth = nullptr;
    u32 node_count = 0;
    u32 chunk_count = 0;  // with all room
    u32 first_chunks = 0;

    /// The chunks that there are by now: the first of the table. The others are free and must not be touched. What cannot be
    /// is cut to what can.
    u32 chunks_there() const {
        // acquire: the file was made longer before.
        const u64 more = growth->chunks.load(std::memory_order_acquire);
        return more < chunk_count - first_chunks ? first_chunks + static_cast<u32>(more)
                                                 : chunk_count;
    }
    PoolNodeWord node(u32 i) const { return {nodes[i].word.load(std::memory_order_acquire)}; }
    ChunkWord chunk(u32 i) const { return {words[i].load(std::memory_order_acquire)}; }
};

/// The tables in a mapping of the file that begins at offset 0.
PoolTables tables_of(void* mapped, const PoolShape& shape);

/// A node as owner of chunks: its entry and the entry's generation.
struct Owner {
    u32 node = 0;
    u32 generation = 0;
};

/// Claims `count` adjacent free chunks for `owner`, the first a multiple of `align` and not below
/// `from`, or with `exact` just those at `from`. `barred[i] != 0` keeps chunk i out. NO_CHUNK:
/// there is no such run.
ChunkIndex claim_run(const PoolTables& tables, Owner owner, u32 count, u32 align, u32 from,
                     bool exact, const u8* barred);

/// Claims one free chunk for `owner`. False: it is not free.
bool claim_chunk(const PoolTables& tables, Owner owner, u32 chunk);

/// Gives a clean (punched) chunk of `owner` back; one that is marked is retired by that. False: it is not the owner's.
bool free_chunk(const PoolTables& tables, Owner owner, u32 chunk);

/// Leaves a chunk of `owner`, which is dead, to the objects in it: nobody's, but not free. False:
/// it is not the owner's.
bool keep_chunk_in_pool(const PoolTables& tables, Owner owner, u32 chunk);

/// Takes a chunk that was kept and in which no object lives any more, to clean and free it. False:
/// somebody else was faster.
bool claim_kept_chunk(const PoolTables& tables, Owner owner, u32 chunk);

/// Marks a chunk, whoever has it: memory in it has failed. False: it was marked.
bool mark_failed(const PoolTables& tables, u32 chunk);

/// Takes a chunk that was retired, to see whether it can be mended; marked it stays. False: it is not, or somebody else was
/// faster.
bool claim_retired_chunk(const PoolTables& tables, Owner owner, u32 chunk);

/// Takes the mark off a chunk of `owner`, whose memory is other memory now. False: it was not marked, or not the owner's.
bool mend_chunk(const PoolTables& tables, Owner owner, u32 chunk);

/// The first chunk at or after `from` that names `node`, whatever the generation; chunk_count if
/// there is none.
u32 next_chunk_of_node(const PoolTables& tables, u32 node, u32 from);

/// Makes the pool one of `chunks` chunks, whose memory is there and clean, for everybody at once; never smaller. At most
/// chunk_count.
void grow_to(const PoolTables& tables, u32 chunks);

/// The first fault in the words of both tables that no running process can be the cause of.
PoolFault verify_words(const PoolTables& tables, const Superblock& superblock);

}  // namespace aep
