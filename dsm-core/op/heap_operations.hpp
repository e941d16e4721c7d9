// Purpose: the operations of a heap: all of malloc and free that has more than one commit.
// Who calls it: the driver, directly in private mode, else through the image.
// Crash rule: an operation that started must complete: alone (private mode: all threads die
//             together) or because its provider completes it.
//
// `heap` is the caller's, or one whose sequence it has (Heap::sequence) while its thread is outside.
// `now` is in ms and starts the decay of what becomes free.
#pragma once

#include "dsm-core/heap/domain.hpp"
#include "dsm-core/op/operation.hpp"

namespace aep::op {

// ---- Pages and runs

/// Chunks that the backing has provided become the domain's.
struct AddChunks {
    static constexpr const char* NAME = "add_chunks";
    ChunkIndex first{};
    u32 count = 0;
    u64 now = 0;
    bool dirty = false;      // they hold memory, which decays
    bool zero = false;       // they read as zero
    bool committed = false;  // writing them cannot fail
    bool coarse = false;     // their memory comes in large pieces
    bool sparse = false;     // the bitmaps of a page must be made present before it is made
    using Reply = Done;
};

/// Gets a page of a class with a block at hand: one of the heap's, one of a heap that nobody has, or
/// a fresh one. Resumable: what it cannot do itself it asks for, and is asked again with that. In
/// between the caller has at most a reserved run, which belongs to the heap.
struct Refill {
    static constexpr const char* NAME = "refill";
    Heap* heap = nullptr;
    u32 size_class = 0;
    u64 now = 0;
    // Full pages' few free blocks count, too, and runs over a chunk's border.
    bool thorough = false;
    bool own_only = false;  // no page of others' is adopted
    bool fresh = false;     // a page may be made of slices that are free

    // What the last answer asked for, one of them.
    PageDesc* page = nullptr;  // `committed` bytes of it can be written now
    Run run{};                 // reserved; run.committed bytes of it can be written now
    AddChunks chunks{};        // the first `committed` bytes of them can be written at once
    u64 committed = 0;
    // Slices of the run's or the chunks' first chunk whose bitmaps are present now, a bit each.
    u64 bitmaps = 0;

    struct Reply {
        Status status = Status::ok;  // miss; uncommitted; need_chunks
        bool fresh = false;          // the page is
        bool bitmaps = false;        // uncommitted, a run: those of its first slice must be present
        // ok; uncommitted: more of it must be writable; null: of the run.
        PageDesc* page = nullptr;
        Run run{};  // uncommitted: reserved
        // Bytes from the start of page or run to be writable; with ok: that had better be, for the
        // page has few blocks; 0: none.
        u64 goal = 0;
        uptr twice_freed = 0;  // a block that another thread freed although it was not live
    };
};

/// Reserves a run of slices for the heap (null: for the domain). It is lost if it becomes nothing.
struct TakeRun {
    static constexpr const char* NAME = "take_run";
    Heap* heap = nullptr;
    u32 slices = 0;
    u32 alignment = 0;                   // in slices; a power of two
    u32 first_chunk = 0, end_chunk = 0;  // that it must lie in; both 0: any
    bool thorough = false;               // also over a chunk's border, however short
    friend constexpr bool operator==(const TakeRun&, const TakeRun&) = default;
    struct Reply {
        Status status = Status::ok;  // miss
        Run run{};
    };
};

/// Gives back a reserved run, or chunks' worth of one.
struct GiveRun {
    static constexpr const char* NAME = "give_run";
    SliceIndex first{};
    u32 slices = 0;
    u64 now = 0;
    using Reply = Done;
};

/// A page is filed where it belongs after a free that the fast path could not finish.
struct RefilePage {
    static constexpr const char* NAME = "refile_page";
    Heap* heap = nullptr;
    PageDesc* page = nullptr;
    u64 now = 0;
    using Reply = Done;
};

/// Hands a page with its first remote free to its owner.
struct QueuePage {
    static constexpr const char* NAME = "queue_page";
    Heap* heap = nullptr;  // the caller's; null: it has none
    PageDesc* page = nullptr;
    using Reply = Done;
};

// ---- Large objects

/// Makes a large object. Resumable, as Refill is.
struct MakeLarge {
    static constexpr const char* NAME = "make_large";
    Heap* heap = nullptr;
    u32 slices = 0;
    u32 alignment = 1;      // in slices; a power of two
    u64 bytes = 0;          // from its start, to be writable
    bool thorough = false;  // runs over a chunk's border, too
    Run run{};              // see Refill; the object is made of it
    AddChunks chunks{};
    struct Reply {
        Status status = Status::ok;  // uncommitted; need_chunks
        Run run{};                   // ok: the object; uncommitted: reserved
        u64 goal = 0;                // uncommitted: bytes of the run to be writable
    };
};

struct FreeLarge {
    static constexpr const char* NAME = "free_large";
    uptr address = 0;
    u64 now = 0;
    using Reply = Done;  // not_live
};

/// Extends a large object into the free slices behind it.
struct GrowLarge {
    static constexpr const char* NAME = "grow_large";
    uptr address = 0;
    u32 slices = 0;  // that it is to have
    struct Reply {
        Status status = Status::ok;  // miss: they are not free; beyond_end
        ChunkIndex missing{};        // beyond_end: the chunk that must be added
        Run added{};                 // ok
    };
};

struct ShrinkLarge {
    static constexpr const char* NAME = "shrink_large";
    uptr address = 0;
    u32 slices = 0;  // that it keeps
    u64 now = 0;
    using Reply = Done;
};

/// More of a large object can be written.
struct CommitLarge {
    static constexpr const char* NAME = "commit_large";
    uptr address = 0;
    u32 slices = 0;  // from its start
    using Reply = Done;
};

// ---- Chunks and free memory

/// Withdraws free slices of one chunk whose memory is due to go back; EndPurge returns them.
struct BeginPurge {
    static constexpr const char* NAME = "begin_purge";
    u64 decay_ms = 0;  // how long free memory is kept; 0: all is due
    u64 now = 0;
    struct Reply {
        Status status = Status::ok;  // miss: none is due
        ChunkIndex chunk{};
        u64 slices = 0;  // a bit each
    };
};

struct EndPurge {
    static constexpr const char* NAME = "end_purge";
    ChunkIndex chunk{};
    u64 zero_slices = 0;  // those of them that read as zero now
    u64 slices = 0;       // as BeginPurge said
    bool committed = false;
    using Reply = Done;
};

/// Withdraws a chunk that holds nothing.
struct DetachChunk {
    static constexpr const char* NAME = "detach_chunk";
    u32 keep = 0;  // so many of them stay
    struct Reply {
        Status status = Status::ok;  // miss
        ChunkIndex chunk{};
    };
};

// ---- Heaps

struct AcquireHeap {
    static constexpr const char* NAME = "acquire_heap";
    bool unused = false;  // only one without pages
    friend constexpr bool operator==(const AcquireHeap&, const AcquireHeap&) = default;
    struct Reply {
        Status status = Status::ok;  // need_heaps
        Heap* heap = nullptr;
    };
};

/// The heap's next owner waits until the caller is outside.
struct AbandonHeap {
    static constexpr const char* NAME = "abandon_heap";
    Heap* heap = nullptr;
    u64 now = 0;
    struct Reply {
        Status status = Status::ok;
        uptr twice_freed = 0;
    };
};

/// More heaps have memory.
struct AddHeaps {
    static constexpr const char* NAME = "add_heaps";
    u32 mapped = 0;  // all of them
    using Reply = Done;
};

/// Releases pages that hold nothing.
struct Trim {
    static constexpr const char* NAME = "trim";
    Heap* heap = nullptr;
    u64 now = 0;
    struct Reply {
        Status status = Status::ok;
        uptr twice_freed = 0;
    };
};

/// In a forked child: operations of the threads that are not there never happened.
struct RepairAfterFork {
    static constexpr const char* NAME = "repair_after_fork";
    Heap* heap = nullptr;  // the survivor's; may be null
    u64 now = 0;
    using Reply = Done;
};

/// Gives back the pages of another thread's heap that others have freed wholly; the caller has its
/// sequence.
struct TakeBack {
    static constexpr const char* NAME = "take_back";
    Heap* heap = nullptr;
    u64 now = 0;
    struct Reply {
        Status status = Status::ok;  // miss: none
        u32 slices = 0;              // given back
    };
};

// ---- What the fast path does inline, as operations (AEP_PURE)

struct TakeBlock {
    static constexpr const char* NAME = "take_block";
    Heap* heap = nullptr;
    u32 size_class = 0;
    u64 now = 0;
    struct Reply {
        Status status = Status::ok;  // miss, uncommitted: it needs a page
        bool fresh_zero = false;     // never used, and reads as zero (classes above MAX_DIRECT)
        uptr block = 0;
        uptr twice_freed = 0;
    };
};

struct FreeBlock {
    static constexpr const char* NAME = "free_block";
    Heap* heap = nullptr;
    PageDesc* page = nullptr;
    u32 index = 0;
    u64 now = 0;
    using Reply = Done;  // not_live
};

/// free of a block of another heap's page.
struct FreeForeign {
    static constexpr const char* NAME = "free_foreign";
    Heap* heap = nullptr;  // the caller's; null: it has none
    PageDesc* page = nullptr;
    u32 index = 0;
    using Reply = Done;  // not_live: freed twice
};

using HeapOperations =
    OperationList<0, Refill, TakeRun, GiveRun, RefilePage, QueuePage, MakeLarge, FreeLarge,
                  GrowLarge, ShrinkLarge, CommitLarge, AddChunks, BeginPurge, EndPurge, DetachChunk,
                  AcquireHeap, AbandonHeap, AddHeaps, Trim, RepairAfterFork, TakeBack, TakeBlock,
                  FreeBlock, FreeForeign>;

}  // namespace aep::op
