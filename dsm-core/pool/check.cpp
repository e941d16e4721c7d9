// Purpose: see check.hpp.
// Who calls it: `aep check` (node/checker.cpp), tests, the fuzz target.
// Crash rule: reads only.
#include "dsm-core/pool/check.hpp"

#include "dsm-core/base/copied.hpp"
#include "dsm-core/pool/tables.hpp"

namespace aep {
namespace {

constexpr const char* OWNERLESS = "no process will give this chunk back: let a new pool be created";

/// How often a chunk that changes hands is looked at.
constexpr int LOOKS = 1000;

/// Whether the chunk's node is taken in the chunk's generation. The node's word is read between two
/// reads of the chunk's: only an ownership that stays the same meanwhile is judged.
bool owner_exists(const PoolTables& t, u32 chunk, ChunkWord& word, PoolNodeWord& node) {
    for (int look = 0; look < LOOKS; ++look) {
        word = t.chunk(chunk);
        if (!word.valid(t.node_count)) return false;
        if (word.state() != ChunkState::owned) return true;
        node = t.node(word.node());
        if (t.chunk(chunk).bits == word.bits)
            return node.state() != PoolNodeState::free && node.generation() == word.generation();
    }
    return true;  // it has changed hands each time
}

}  // namespace

bool pool_check(const void* mapped, usize bytes, PoolReport& report) {
    report = {};
    if (bytes < SUPERBLOCK_BYTES) {
        report.fault = {"file size", 0, bytes, SUPERBLOCK_BYTES, "the file is not a pool"};
        return false;
    }
    const Superblock s = copied(*static_cast<const Superblock*>(mapped));
    report.fault = verify_superblock(s, bytes);
    if (report.fault) return false;
    const PoolTables t = tables_of(const_cast<void*>(mapped), shape_of(s));
    report.chunks = t.chunks_there();
    report.nodes = t.node_count;
    report.fault = verify_words(t, s);
    if (report.fault) return false;
    for (u32 i = 0; i < t.node_count; ++i) {
        const PoolNodeState state = t.node(i).state();
        report.live_nodes += state == PoolNodeState::live;
        report.reclaiming_nodes += state == PoolNodeState::reclaiming;
    }
    for (u32 i = 0; i < t.chunk_count; ++i) {
        ChunkWord word{};
        PoolNodeWord node{};
        if (!owner_exists(t, i, word, node)) {
            report.fault = {"owner of chunk", s.chunk_words_offset + i * sizeof(u64), word.bits,
                            ChunkWord::owned(word.node(), node.generation()).bits, OWNERLESS};
            return false;
        }
        const bool owned = word.state() == ChunkState::owned;
        const bool kept = word.state() == ChunkState::kept;
        report.owned_chunks += owned;
        report.kept_chunks += kept;
        const bool retired = word.bits == RETIRED_CHUNK.bits;
        report.retired_chunks += retired && i < report.chunks;
        report.free_chunks += !owned && !kept && !retired && i < report.chunks;
    }
    return true;
}

}  // namespace aep
