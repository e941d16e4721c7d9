// Purpose: the narrow interface to the slow path: every operation that has more than one commit,
// each of them
//          short, bounded, free of system calls (but futex) and of user memory, selected by number.
// Who calls it: the driver (shim/allocator), directly in private mode; later through the shadow
// entry. Crash rule: an operation that started must complete: alone (private mode: all threads die
// together) or because its
//             provider completes it.
#pragma once

#include "dsm-core/heap/domain.hpp"

namespace aep {

enum class Op : u32 {
    find_page,   // heap, a=class                      -> value=page descriptor with free blocks, or
                 // miss; or uncommitted: the page has room that must be committed first;
                 // mask=1: it has few, and had better be committed further; own_only:
                 // no page of others' is adopted; thorough: full pages' few free blocks count, too
    take_run,    // heap, a=slices, b=alignment; mask=first chunk and, from bit 32, the end of those
                 // that it must lie in (0: any)        -> run, or miss (also if a or b is 0)
    commit_run,  // a=first slice, b=slices
    give_run,    // a=first slice, b=slices, now        (a reserved run, or chunks' worth of one)
    page_birth,  // heap, a=class, run                  -> value=page descriptor
    extend_page,   // heap, a=page descriptor, b=bytes of it that can be written
    large_birth,   // run
    free_local,    // heap, a=page descriptor, now    (its last free left the fast path)
    free_large,    // a=address, now                      -> ok, or not_live
    grow_large,    // a=address, b=slices                 -> run added, miss, or beyond_end
                   // (value=chunk that must be added)
    shrink_large,  // a=address, b=slices, now
    commit_large,  // a=address, b=slices from its start that can be written
    queue_page,    // a=page descriptor                   (first remote free of a page)
    add_chunks,   // a=first chunk, b=count, zero, committed, coarse; mask=~0: they hold memory, now
    purge_begin,  // now, a=decay ms                     -> value=chunk, mask; or miss
    purge_end,    // a=chunk, mask, b=those of mask that read as zero, committed
    detach_chunk,       // a=how many free chunks to keep      -> value=chunk, or miss
    heap_acquire,       // own_only: one without pages         -> value=heap, or need_heaps
    heap_abandon,       // heap, now     (its next owner waits until this one is outside)
    add_heaps,          // a=count now mapped
    trim,               // heap, now: releases idle pages
    repair_after_fork,  // heap (the survivor's, may be null), now
    // What the fast path does inline, as operations (AEP_PURE).
    take_block,    // heap, a=class, now                  -> value=address, mask=1: its memory was
                   // never used and reads as zero (classes above MAX_DIRECT); miss: needs a page
    free_block,    // heap, a=page descriptor of it, b=index, now -> ok, or not_live
    free_foreign,  // a=page descriptor of another heap, b=index  -> ok, or not_live: freed twice
    take_back,     // heap (any; the caller has its sequence), now: gives back the pages that others
                   // have freed wholly -> value=slices, or miss
    count,
};

enum class Status : u32 {
    ok,
    miss,
    not_live,
    need_heaps,
    beyond_end,
    uncommitted,  // find_page: the page has room, but more of it must be committed first
    limit,        // the client or the context may not hold more
    poisoned,     // the context is; nothing was done
    nested,       // the thread's slot is inside already (a signal handler); nothing was done
    no_such_op,   // ENOSYS
    // Sharing.
    gone,          // the client does not take part, or not any more
    full,          // the mailbox has no room
    not_held,      // the client has no reference to the object
    exists,        // the name is taken
    need_records,  // more records must be made present first
    fenced,        // other nodes have declared this one dead; nothing was done
    not_writer,    // the client may not allocate in the group
    busy,          // others have references to the group
};

struct Request {
    Op op;
    Heap* heap = nullptr;
    u64 a = 0;
    u64 b = 0;
    u64 now = 0;
    u64 mask = 0;
    Run run{};
    bool zero = false;
    bool committed = false;
    bool coarse = false;
    bool thorough = false;
    bool own_only = false;
};

struct Reply {
    Status status = Status::ok;
    uptr value = 0;
    u64 mask = 0;
    u64 extra = 0;
    Run run{};
    uptr twice_freed =
        0;  // a block that another thread freed although it was not live, found on the way
};

/// Performs one operation on a domain, whose heaps alone the request may name.
/// Thread-safe; a heap is only ever named by the thread that owns it, or by one that has its
/// sequence (Heap::sequence) while that thread is outside.
Reply perform(Domain& dom, const Request& request);

}  // namespace aep
