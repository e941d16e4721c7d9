// Purpose: see tables.hpp.
// Who calls it: shim/backing/pool_backing.cpp, shim/backing/reclaim.cpp.
// Crash rule: every change of a chunk word is one compare-and-swap, which leaves its mark as it is.
#include "dsm-core/pool/tables.hpp"

#include "dsm-core/pool/crash_points.hpp"

namespace aep {
namespace {

bool claim_one(std::atomic<u64>& word, u64 owned) {
    u64 expected = FREE_CHUNK.bits;
    // acquire: the bytes that the former owner punched are seen as zero.
    return word.load(std::memory_order_relaxed) == expected &&
           word.compare_exchange_strong(expected, owned, std::memory_order_acq_rel,
                                        std::memory_order_relaxed);
}

/// One step of a chunk's life, with the mark that its word has or gets meanwhile. False: it does not say `from`.
bool change_word(std::atomic<u64>& word, ChunkWord from, ChunkWord to) {
    u64 now = from.bits;
    while ((now & ~ChunkWord::FAILED) == from.bits) {
        // acq_rel: whoever claims it next sees it clean.
        if (word.compare_exchange_strong(now, to.bits | (now & ChunkWord::FAILED),
                                         std::memory_order_acq_rel, std::memory_order_relaxed))
            return true;
    }
    return false;
}

ChunkWord word_of(Owner owner) { return ChunkWord::owned(owner.node, owner.generation); }

/// Claims [first, first+count), or nothing; `obstacle` is then the chunk that could not be had.
bool claim_all(const PoolTables& t, u64 owned, u32 first, u32 count, u32& obstacle) {
    for (u32 i = first; i < first + count; ++i) {
        if (claim_one(t.words[i], owned)) {
            AEP_POOL_CRASH_POINT("claim: one chunk of run");
            continue;
        }
        obstacle = i;
        while (i-- > first) {
            // Untouched since it was claimed, so still clean.
            change_word(t.words[i], {owned}, FREE_CHUNK);
            AEP_POOL_CRASH_POINT("rollback: one chunk");
        }
        return false;
    }
    AEP_POOL_CRASH_POINT("claim: whole run");
    return true;
}

/// The first chunk of [first, first+count) that cannot be claimed; first+count if all look free.
u32 first_obstacle(const PoolTables& t, u32 first, u32 count, const u8* barred) {
    u32 i = first;
    while (i < first + count && barred[i] == 0 &&
           t.words[i].load(std::memory_order_relaxed) == FREE_CHUNK.bits)
        ++i;
    return i;
}

}  // namespace

PoolTables tables_of(void* mapped, const PoolShape& s) {
    u8* base = static_cast<u8*>(mapped);
    return {reinterpret_cast<PoolNodeEntry*>(base + s.nodes_offset),
            reinterpret_cast<std::atomic<u64>*>(base + s.chunk_words_offset),
            reinterpret_cast<PoolGrowth*>(base + SUPERBLOCK_BYTES),
            s.node_count,
            s.chunk_count,
            s.first_chunks};
}

ChunkIndex claim_run(const PoolTables& t, Owner owner, u32 count, u32 align, u32 from, bool exact,
                     const u8* barred) {
    const u32 there = t.chunks_there();
    if (count == 0 || count > there) return NO_CHUNK;
    const u64 owned = word_of(owner).bits;
    const u32 last = there - count;
    usize first = exact ? from : round_up(from, align);
    while (first <= last) {
        const u32 candidate = static_cast<u32>(first);
        u32 obstacle = first_obstacle(t, candidate, count, barred);
        if (obstacle == candidate + count && claim_all(t, owned, candidate, count, obstacle))
            return ChunkIndex{candidate};
        if (exact) break;
        first = round_up(usize{obstacle} + 1, align);
    }
    return NO_CHUNK;
}

bool claim_chunk(const PoolTables& t, Owner owner, u32 chunk) {
    return claim_one(t.words[chunk], word_of(owner).bits);
}

bool free_chunk(const PoolTables& t, Owner owner, u32 chunk) {
    return change_word(t.words[chunk], word_of(owner), FREE_CHUNK);
}

bool keep_chunk_in_pool(const PoolTables& t, Owner owner, u32 chunk) {
    return change_word(t.words[chunk], word_of(owner), KEPT_CHUNK);
}

bool claim_kept_chunk(const PoolTables& t, Owner owner, u32 chunk) {
    return change_word(t.words[chunk], KEPT_CHUNK, word_of(owner));
}

bool mark_failed(const PoolTables& t, u32 chunk) {
    std::atomic<u64>& word = t.words[chunk];
    // relaxed: nothing else is passed on with it.
    const ChunkWord before{word.fetch_or(ChunkWord::FAILED, std::memory_order_relaxed)};
    // It outlives the machine in whose caches it is.
    asm volatile("clflush %0" : : "m"(word) : "memory");
    return !before.has_failed();
}

bool claim_retired_chunk(const PoolTables& t, Owner owner, u32 chunk) {
    u64 expected = RETIRED_CHUNK.bits;
    return t.words[chunk].compare_exchange_strong(expected, word_of(owner).bits | ChunkWord::FAILED,
                                                  std::memory_order_acq_rel);
}

bool mend_chunk(const PoolTables& t, Owner owner, u32 chunk) {
    u64 expected = word_of(owner).bits | ChunkWord::FAILED;
    return t.words[chunk].compare_exchange_strong(expected, word_of(owner).bits,
                                                  std::memory_order_acq_rel);
}

u32 next_chunk_of_node(const PoolTables& t, u32 node, u32 from) {
    for (u32 i = from; i < t.chunk_count; ++i) {
        const ChunkWord word = t.chunk(i);
        if (word.state() == ChunkState::owned && word.node() == node) return i;
    }
    return t.chunk_count;
}

void grow_to(const PoolTables& t, u32 chunks) {
    if (chunks <= t.first_chunks) return;
    std::atomic<u64>& word = t.growth->chunks;
    const u64 more = chunks - t.first_chunks;
    u64 now = word.load(std::memory_order_relaxed);
    // release: who sees it larger finds the memory there.
    while (now < more && !word.compare_exchange_weak(now, more, std::memory_order_release)) {
    }
}

PoolFault verify_words(const PoolTables& t, const Superblock& s) {
    constexpr const char* ADVICE =
        "a program wrote over the pool's tables: stop its users and let a new pool be created";
    const u64 most = t.chunk_count - t.first_chunks;
    if (const u64 more = t.growth->chunks.load(std::memory_order_acquire); more > most)
        return {"grown chunks", SUPERBLOCK_BYTES, more, most, ADVICE};
    for (u32 i = 0; i < t.node_count; ++i) {
        const PoolNodeWord word = t.node(i);
        if (!word.valid()) {
            return {"node entry", s.nodes_offset + i * sizeof(PoolNodeEntry), word.bits,
                    PoolNodeWord::make(PoolNodeState::free, word.generation()).bits, ADVICE};
        }
    }
    for (u32 i = 0; i < t.chunk_count; ++i) {
        const ChunkWord word = t.chunk(i);
        if (!word.valid(t.node_count)) {
            return {"chunk word", s.chunk_words_offset + i * sizeof(u64), word.bits,
                    FREE_CHUNK.bits, ADVICE};
        }
    }
    return {};
}

}  // namespace aep
