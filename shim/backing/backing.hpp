// Purpose: where chunks come from: the one interface between the allocator and memory. Three
//          backings: anonymous memory (private mode), a pool file whose every process is a node,
//          and a context's part of a pool.
// Who calls it: shim/driver/allocator.cpp (the driver of the slow path), the fork hooks.
// Crash rule: a backing that dies anywhere leaves the pool with every chunk either free or owned by
// a node
//             whose lock is gone, which the next process that needs a chunk takes back.
#pragma once

#include "dsm-core/base/layout.hpp"

namespace aep {

/// A run of adjacent chunks, mapped read/write in the heap window together with their metadata.
struct ChunkRun {
    ChunkIndex first = NO_CHUNK;
    u32 count = 0;
    bool zero = false;    // every byte of it reads as zero
    bool dirty = false;   // it holds memory, which decays
    bool coarse = false;  // its memory comes in large pieces: committing little saves none
    explicit operator bool() const { return count != 0; }
};

/// The operations of a backing. All may make system calls; none allocates, throws or uses libc
/// state. Thread-safe: `provide` and `release` are serialised by the caller (the driver's growth
/// lock); `commit` and `purge` are called by many threads at once on disjoint ranges.
struct Backing {
    /// Takes `count` adjacent chunks, the first at a multiple of `align` chunks; with `at` not
    /// NO_CHUNK the run must begin there. Maps chunks and metadata (metadata reads as zero the
    /// first time). An empty run means: no memory or pool full (ENOMEM), with nothing taken and
    /// nothing left mapped.
    ChunkRun (*provide)(u32 count, u32 align, ChunkIndex at);
    /// Makes sure that writing [address, address+bytes) cannot fail: false (ENOMEM) if there is no
    /// memory. Both are multiples of an OS page. Null when the backing never needs it (anonymous
    /// memory).
    bool (*commit)(uptr address, usize bytes);
    /// Makes sure that the bitmaps of a page that begins at `first` can be written. The slices of
    /// its chunk of which that holds now, a bit each; 0 (ENOMEM): there is no memory. Null when it
    /// never fails.
    u64 (*commit_page)(SliceIndex first) = nullptr;
    /// Gives the memory behind the range back to the system; the addresses stay ours. True when it
    /// reads as zero afterwards. A purged range must be committed again before use.
    bool (*purge)(uptr address, usize bytes);
    /// Gives chunks back so that others can take them (pool), or drops their memory (anonymous).
    /// False: this backing keeps its chunks (they stay usable, purged).
    bool (*release)(ChunkIndex first, u32 count);
    /// Makes sure that a part of the domain can be written: false (ENOMEM). Null: maps it as fresh
    /// private memory instead.
    bool (*commit_domain)(uptr address, usize bytes) = nullptr;
    /// Whether so little is left that no thread should take a page for itself that it needs little
    /// of. Null: never.
    bool (*is_scarce)() = nullptr;
    /// fork: called in the parent before (false: fork must fail with ENOMEM), in the parent after,
    /// in the child.
    bool (*fork_prepare)();
    void (*fork_parent)();
    void (*fork_child)();
    /// First chunk index that can never be provided: bounds the window for pointer checks. Fixed at
    /// start.
    u32 max_chunks;
};

/// Private mode: anonymous memory, nothing shared, nothing left behind. Never fails.
const Backing* anonymous_backing();

/// Opens or creates the pool file `path` (0600; `bytes` is its size when it is created, 0 =
/// default) and joins it as a node of its own. Null with a message on fd 2 that says what is wrong
/// and where, when the file is damaged, truncated, foreign, of another version, or cannot be opened
/// or mapped.
const Backing* pool_backing(const char* path, usize bytes);

/// Maps the metadata arrays (zero) of the chunk groups that hold [first, first+count): used by both
/// backings. Below the highest chunk ever asked for other descriptors can be read, as zero, and not
/// written; bitmaps of other chunks are inaccessible. False: no memory, nothing usable more than
/// before. A group that is mapped is left as it is.
bool map_metadata(ChunkIndex first, u32 count);

/// The bitmaps of chunks [first, first+count), which are mapped: accessible while the chunks are
/// ours, so that a stray store reaches nobody else's, and mlockall does not fill a context.
bool protect_bitmaps(u32 first, u32 count, int protection);

/// The metadata of all chunks below `end` (a multiple of CHUNKS_PER_META_GROUP) is mapped already,
/// by somebody else: map_metadata has nothing to do with it. Before its first call.
void metadata_begins_at(ChunkIndex end);

}  // namespace aep
