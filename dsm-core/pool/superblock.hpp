// Purpose: makes a superblock from a size, and judges one that was read from a file.
// Who calls it: shim/backing/pool_file.cpp, dsm-core/pool/check.cpp, the fuzz target.
// Crash rule: no state; a superblock is complete before the file that holds it gets its name.
#pragma once

#include "dsm-core/pool/format.hpp"

namespace aep {

inline constexpr usize MIN_POOL_BYTES = 2 * CHUNK_SIZE;
inline constexpr usize DEFAULT_POOL_BYTES = 1 * GiB;
/// Half of the window: the other half stays for chunks of anonymous memory.
inline constexpr usize MAX_POOL_BYTES = HEAP_WINDOW / 2;

/// The superblock of a new pool of `file_bytes` (rounded down to whole chunks), which must lie
/// within [MIN_POOL_BYTES, MAX_POOL_BYTES]. `era`, `era_bytes`: see dsm-core/era/region.hpp; the
/// latter far smaller than the file. What `terms` do not say is DEFAULT_LEASE_MS and coherent. `room_bytes`: that the pool
/// may grow to, at most MAX_POOL_BYTES (rounded down, too; less than `file_bytes`: no more than that).
void make_superblock(Superblock& superblock, usize file_bytes, const u8 (&uuid)[16],
                     const EraShape& era = {}, usize era_bytes = 0, const PoolTerms& terms = {},
                     usize room_bytes = 0);

/// Makes `cluster` the terms' name. False: it has 32 characters or more, or one that is no letter,
/// digit, '.', '_' or '-'; the terms stay.
bool name_cluster(PoolTerms& terms, const char* cluster);

/// What is wrong with a pool: which field, where in the file, what it holds, what it should hold.
struct PoolFault {
    const char* field = nullptr;  // null: nothing is wrong
    u64 offset = 0;
    u64 found = 0;
    u64 expected = 0;
    const char* advice = nullptr;  // what to do
    explicit operator bool() const { return field != nullptr; }
};

/// Checks every field of a superblock against the others and against the size of the file it was
/// read from, which may have grown. After a clean answer all offsets and counts can be used without further checks.
PoolFault verify_superblock(const Superblock& superblock, u64 file_bytes);

/// Bytes from the start of the file to the end of the chunk table: what is always backed by memory.
constexpr usize tables_end(const Superblock& s) {
    return s.chunk_words_offset + usize{s.chunk_count} * sizeof(u64);
}

}  // namespace aep
