// Purpose: see superblock.hpp.
// Who calls it: shim/backing/pool_file.cpp, dsm-core/pool/check.cpp.
// Crash rule: no state.
#include "dsm-core/pool/superblock.hpp"

namespace aep {
namespace {

/// A process underflowing the first object of chunk 0 does not reach the tables.
constexpr usize TABLES_GUARD = 64 * KiB;

constexpr u32 nodes_for(u32 chunks) {
    return chunks < 64 ? 64 : chunks > MAX_NODES ? MAX_NODES : chunks;
}

u64 checksum_of(const Superblock& s) {
    return fnv1a(reinterpret_cast<const u8*>(&s), offsetof(Superblock, checksum));
}

constexpr bool may_name_a_cluster(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

/// Whether a name is followed by zeros only: what is compared and shown is all of it.
bool is_cluster_name(const char (&name)[32]) {
    usize i = 0;
    while (i < sizeof name && may_name_a_cluster(name[i])) ++i;
    if (i == sizeof name) return false;
    while (i < sizeof name && name[i] == '\0') ++i;
    return i == sizeof name;
}

struct Geometry {
    u32 chunks;
    u32 nodes;
    u64 nodes_offset;
    u64 chunk_words_offset;
    u64 era_offset;
    u64 chunks_offset;
};

/// Where everything lies in a file with room for `room_bytes`, `era_bytes` of which are not the pool's own.
Geometry geometry_of(u64 room_bytes, u64 era_bytes) {
    const u64 file_chunks = room_bytes / CHUNK_SIZE;
    Geometry g{};
    g.nodes_offset = SUPERBLOCK_BYTES + sizeof(PoolGrowth);
    // The tables are sized for all chunks of the file, then the tables' own chunks are taken off.
    g.nodes = nodes_for(static_cast<u32>(file_chunks));
    g.chunk_words_offset = round_up(g.nodes_offset + g.nodes * sizeof(PoolNodeEntry), OS_PAGE_SIZE);
    g.era_offset = round_up(g.chunk_words_offset + file_chunks * sizeof(u64), OS_PAGE_SIZE);
    g.chunks_offset = round_up(g.era_offset + era_bytes + TABLES_GUARD, CHUNK_SIZE);
    g.chunks = static_cast<u32>(file_chunks - g.chunks_offset / CHUNK_SIZE);
    return g;
}

constexpr const char* RECREATE =
    "the file is damaged or not a pool: move it away and let a new one be created";
constexpr const char* OTHER_PROGRAM =
    "it was created by another version of the library: use that version, or another AEP_POOL path";

}  // namespace

bool name_cluster(PoolTerms& terms, const char* cluster) {
    PoolTerms named = terms;
    usize length = 0;
    for (; cluster[length] != '\0'; ++length) {
        if (length + 1 == sizeof named.cluster || !may_name_a_cluster(cluster[length]))
            return false;
        named.cluster[length] = cluster[length];
    }
    while (length < sizeof named.cluster) named.cluster[length++] = '\0';
    terms = named;
    return true;
}

void make_superblock(Superblock& s, usize file_bytes, const u8 (&uuid)[16], const EraShape& era,
                     usize era_bytes, const PoolTerms& terms, usize room_bytes) {
    s = {};
    s.file_bytes = round_down(file_bytes, CHUNK_SIZE);
    s.room_bytes = room_bytes < file_bytes ? s.file_bytes : round_down(room_bytes, CHUNK_SIZE);
    const Geometry g = geometry_of(s.room_bytes, era_bytes);
    s.magic = POOL_MAGIC;
    s.version = POOL_VERSION;
    s.superblock_bytes = SUPERBLOCK_BYTES;
    s.layout_hash = POOL_LAYOUT_HASH;
    __builtin_memcpy(s.uuid, uuid, sizeof uuid);
    s.chunk_bytes = CHUNK_SIZE;
    s.chunk_count = g.chunks;
    s.node_count = g.nodes;
    s.nodes_offset = g.nodes_offset;
    s.chunk_words_offset = g.chunk_words_offset;
    s.chunks_offset = g.chunks_offset;
    s.heap_base = HEAP_BASE;
    s.era_offset = g.era_offset;
    s.era_bytes = era_bytes;
    s.era = era;
    s.terms = terms;
    if (s.terms.lease_ms == 0) s.terms.lease_ms = DEFAULT_LEASE_MS;
    if (s.terms.coherent == Coherence::unsaid) s.terms.coherent = Coherence::yes;
    s.checksum = checksum_of(s);
}

PoolFault verify_superblock(const Superblock& s, u64 file_bytes) {
#define AEP_FIELD(name) #name, offsetof(Superblock, name), s.name
    if (file_bytes < SUPERBLOCK_BYTES)
        return {"file size", 0, file_bytes, SUPERBLOCK_BYTES, RECREATE};
    // First who wrote it, then whether it is whole, then what it says.
    if (s.magic != POOL_MAGIC) return {AEP_FIELD(magic), POOL_MAGIC, RECREATE};
    if (s.version != POOL_VERSION) return {AEP_FIELD(version), POOL_VERSION, OTHER_PROGRAM};
    if (s.checksum != checksum_of(s)) return {AEP_FIELD(checksum), checksum_of(s), RECREATE};
    if (s.layout_hash != POOL_LAYOUT_HASH)
        return {AEP_FIELD(layout_hash), POOL_LAYOUT_HASH, OTHER_PROGRAM};
    if (s.superblock_bytes != SUPERBLOCK_BYTES)
        return {AEP_FIELD(superblock_bytes), SUPERBLOCK_BYTES, RECREATE};
    if (s.file_bytes < MIN_POOL_BYTES) return {AEP_FIELD(file_bytes), MIN_POOL_BYTES, RECREATE};
    if (s.file_bytes > MAX_POOL_BYTES) return {AEP_FIELD(file_bytes), MAX_POOL_BYTES, RECREATE};
    if (s.file_bytes % CHUNK_SIZE != 0)
        return {AEP_FIELD(file_bytes), round_down(s.file_bytes, CHUNK_SIZE), RECREATE};
    if (s.room_bytes < s.file_bytes || s.room_bytes > MAX_POOL_BYTES ||
        s.room_bytes % CHUNK_SIZE != 0)
        return {AEP_FIELD(room_bytes), s.file_bytes, RECREATE};
    if (file_bytes < s.file_bytes || file_bytes > s.room_bytes) {
        return {"file size", 0, file_bytes, s.file_bytes,
                "the file was cut or extended: move it away and let a new one be created"};
    }
    if (s.era_bytes > s.file_bytes / 2 || s.era_bytes % OS_PAGE_SIZE != 0)
        return {AEP_FIELD(era_bytes), 0, RECREATE};
    const Geometry g = geometry_of(s.room_bytes, s.era_bytes);
    if (s.chunk_bytes != CHUNK_SIZE) return {AEP_FIELD(chunk_bytes), CHUNK_SIZE, RECREATE};
    if (s.chunk_count != g.chunks || g.chunks == 0)
        return {AEP_FIELD(chunk_count), g.chunks, RECREATE};
    if (s.node_count != g.nodes) return {AEP_FIELD(node_count), g.nodes, RECREATE};
    if (s.nodes_offset != g.nodes_offset)
        return {AEP_FIELD(nodes_offset), g.nodes_offset, RECREATE};
    if (s.chunk_words_offset != g.chunk_words_offset)
        return {AEP_FIELD(chunk_words_offset), g.chunk_words_offset, RECREATE};
    if (s.era_offset != g.era_offset) return {AEP_FIELD(era_offset), g.era_offset, RECREATE};
    if (s.chunks_offset != g.chunks_offset)
        return {AEP_FIELD(chunks_offset), g.chunks_offset, RECREATE};
    if (s.file_bytes <= s.chunks_offset)
        return {AEP_FIELD(file_bytes), s.chunks_offset + CHUNK_SIZE, RECREATE};
    if (s.heap_base != HEAP_BASE) return {AEP_FIELD(heap_base), HEAP_BASE, OTHER_PROGRAM};
    if (s.terms.lease_ms < MIN_LEASE_MS || s.terms.lease_ms > MAX_LEASE_MS)
        return {AEP_FIELD(terms.lease_ms), DEFAULT_LEASE_MS, RECREATE};
    if (s.terms.coherent != Coherence::yes && s.terms.coherent != Coherence::no) {
        return {"terms.coherent", offsetof(Superblock, terms.coherent),
                static_cast<u64>(s.terms.coherent), static_cast<u64>(Coherence::yes), RECREATE};
    }
    if (!is_cluster_name(s.terms.cluster))
        return {"terms.cluster", offsetof(Superblock, terms.cluster),
                static_cast<u8>(s.terms.cluster[0]), 0, RECREATE};
#undef AEP_FIELD
    for (usize i = 0; i < sizeof s.reserved; ++i)
        if (s.reserved[i] != 0)
            return {"reserved", offsetof(Superblock, reserved) + i, s.reserved[i], 0, RECREATE};
    return {};
}

}  // namespace aep
