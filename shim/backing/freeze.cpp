// Purpose: see freeze.hpp.
// Who calls it: pool_backing.cpp.
// Crash rule: the life token is handed to children before the first chunk becomes private: no
//             descendant ever maps a chunk that could be reclaimed under it.
#include "shim/backing/freeze.hpp"

#include <errno.h>

#include "dsm-core/pool/crash_points.hpp"
#include "shim/backing/headroom.hpp"
#include "shim/backing/memory_map.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

/// A run of chunks that are ours.
struct OwnRun {
    u32 first;
    u32 count;
};

bool is_own(const PoolHere& pool, u32 chunk) {
    const ChunkView state = pool.state(chunk);
    return state == ChunkView::ours || state == ChunkView::pinned;
}

/// The first run at or after `from`; count 0 if there is none.
OwnRun next_own_run(const PoolHere& pool, u32 from) {
    const u32 chunks = pool.tables.chunk_count;
    while (from < chunks && !is_own(pool, from)) ++from;
    u32 end = from;
    while (end < chunks && is_own(pool, end)) ++end;
    return {from, end - from};
}

constexpr usize bytes_of(OwnRun run) { return usize{run.count} * CHUNK_SIZE; }
uptr address_of(OwnRun run) { return chunk_address(ChunkIndex{run.first}); }

/// Says of what is ours in [begin, end) that some of it is private: it is not given back any more,
/// nor sent.
void pin_own_parts(PoolHere& pool, uptr begin, uptr end) {
    const u32 first = static_cast<u32>((begin - HEAP_BASE) >> CHUNK_SHIFT);
    const u32 last = static_cast<u32>((end - 1 - HEAP_BASE) >> CHUNK_SHIFT);
    for (u32 i = first; i <= last; ++i)
        if (pool.state(i) == ChunkView::ours) pool.set_state(i, 1, ChunkView::pinned);
}

bool freeze_range(PoolHere& pool, uptr begin, uptr end, int protection) {
    if (!make_private(pool.private_view + (begin - HEAP_BASE), begin, end - begin, protection))
        return false;
    // Should the next range fail, there is no fork, and this one stays as it is.
    pin_own_parts(pool, begin, end);
    sys::madvise(begin, end - begin, MADV_DODUMP);  // the dormant view is not
    AEP_POOL_CRASH_POINT("freeze: one run");
    return true;
}

/// Freezes what [begin, end) has of our chunks; all of it has one protection.
bool freeze_own_parts(PoolHere& pool, uptr begin, uptr end, int protection) {
    const auto chunk_at = [](uptr address) {
        return static_cast<u32>((address - HEAP_BASE) >> CHUNK_SHIFT);
    };
    for (OwnRun run = next_own_run(pool, chunk_at(begin)); run.count != 0;
         run = next_own_run(pool, run.first + run.count)) {
        const uptr run_end = address_of(run) + bytes_of(run);
        const uptr from = begin > address_of(run) ? begin : address_of(run);
        const uptr to = end < run_end ? end : run_end;
        if (from >= to) break;
        if (!freeze_range(pool, from, to, protection)) return false;
    }
    return true;
}

/// Freezes all that is ours, each part with the protection that the program gave it; what is
/// private already stays as it is. Where the system does not say what that is: readable and
/// writable.
bool freeze_by_map(PoolHere& pool) {
    const uptr heap_end = HEAP_BASE + usize{pool.tables.chunk_count} * CHUNK_SIZE;
    MemoryMap map;
    MappedRange range{HEAP_BASE, HEAP_BASE, PROT_NONE, false};
    while (map.next(range) && range.begin < heap_end) {
        const uptr begin = range.begin > HEAP_BASE ? range.begin : HEAP_BASE;
        const uptr end = range.end < heap_end ? range.end : heap_end;
        if (begin < end && range.shared && !freeze_own_parts(pool, begin, end, range.protection))
            return false;
    }
    // What was not read would stay shared, and no child has that.
    const uptr read_to = range.end > HEAP_BASE ? range.end : HEAP_BASE;
    return !map.failed() || read_to >= heap_end ||
           freeze_own_parts(pool, read_to, heap_end, PROT_READ | PROT_WRITE);
}

// ---- Where fork copies

// A private mapping of huge pages could fail with SIGBUS at any later store; devices have no
// private mappings. So the child gets a copy in ordinary memory, made before the fork, and the
// parent goes on as it was.

/// One staged copy for all runs, in the order of the runs.
uptr staged = 0;
usize staged_bytes = 0;

/// Copies those huge pages of a run that exist; the others read as zero in the copy, too. All of a
/// device exists.
void copy_present(const PoolHere& pool, OwnRun run, uptr to) {
    if (pool.file.memory == PoolMemory::device) {
        __builtin_memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(address_of(run)),
                         bytes_of(run));
        return;
    }
    const usize page = pool.file.page_bytes;
    for (usize at = 0; at < bytes_of(run); at += page) {
        u8 present[CHUNK_SIZE / OS_PAGE_SIZE];
        const uptr from = address_of(run) + at;
        // Not known: copied, which costs a page where there was none.
        if (sys::failed(sys::mincore(from, page, present)) || (present[0] & 1) != 0)
            __builtin_memcpy(reinterpret_cast<void*>(to + at), reinterpret_cast<void*>(from), page);
    }
}

bool stage_copies(const PoolHere& pool) {
    usize bytes = 0;
    for (OwnRun run = next_own_run(pool, 0); run.count != 0;
         run = next_own_run(pool, run.first + run.count))
        bytes += bytes_of(run);
    if (bytes == 0) return true;
    const long at = cgroup_has_room(bytes)
                        ? sys::mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
                        : -ENOMEM;
    if (sys::failed(at)) {
        message("fork: no memory to copy ", Bytes{bytes}, " of heap for the child: ", Errno{at});
        return false;
    }
    staged = static_cast<uptr>(at);
    staged_bytes = bytes;
    uptr to = staged;
    for (OwnRun run = next_own_run(pool, 0); run.count != 0;
         run = next_own_run(pool, run.first + run.count)) {
        copy_present(pool, run, to);
        to += bytes_of(run);
    }
    return true;
}

}  // namespace

bool make_private(uptr view, uptr address, usize bytes, int protection) {
    // After mlockall the view is locked, and making a locked private mapping writable would copy
    // all its pages here and now, before the writers are cut off.
    sys::call(__NR_munlock, static_cast<long>(view), static_cast<long>(bytes));
    // Accessible only now: with strict overcommit the system counts it from here on.
    long result = sys::mprotect(view, bytes, protection);
    if (!sys::failed(result))
        result = sys::mremap(view, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, address);
    if (sys::failed(result)) {
        message("fork: cannot make ", Bytes{bytes}, " of heap at ", Hex{address},
                " private: ", Errno{result});
    }
    return !sys::failed(result);
}

bool freeze_own_chunks(PoolHere& pool) {
    if (pool.file.is_copied_by_fork()) return stage_copies(pool);
    OwnRun run = next_own_run(pool, 0);
    if (run.count == 0) return true;
    // From now on children keep this node alive. Chunks taken later must not depend on them: they
    // get a new node.
    if (pool.token != 0) {
        const long kept = sys::madvise(pool.token, pool.file.page_bytes, MADV_DOFORK);
        if (sys::failed(kept)) {
            message("fork: cannot hand the heap's lock on to the child: ", Errno{kept});
            return false;
        }
    }
    pool.has_node = false;
    AEP_POOL_CRASH_POINT("freeze: token inherited");
    if (!freeze_by_map(pool)) return false;
    for (; run.count != 0; run = next_own_run(pool, run.first + run.count))
        pool.set_state(run.first, run.count, ChunkView::frozen);
    ++pool.freezes;
    AEP_POOL_CRASH_POINT("freeze: all runs");
    return true;
}

bool freeze_before_advice(PoolHere& pool, uptr address, usize bytes) {
    const uptr heap_end = HEAP_BASE + usize{pool.tables.chunk_count} * CHUNK_SIZE;
    const uptr begin = address > HEAP_BASE ? round_down(address, OS_PAGE_SIZE) : HEAP_BASE;
    const uptr end =
        address + bytes < heap_end ? round_up(address + bytes, OS_PAGE_SIZE) : heap_end;
    if (begin >= end || pool.file.is_copied_by_fork()) return true;
    MemoryMap map;
    MappedRange range{};
    while (map.next(range) && range.begin < end) {
        const uptr from = range.begin > begin ? range.begin : begin;
        const uptr to = range.end < end ? range.end : end;
        if (from >= to || !range.shared) continue;
        // First the mark: whoever purges afterwards leaves the chunk alone.
        pin_own_parts(pool, from, to);
        if (!freeze_own_parts(pool, from, to, range.protection)) return false;
    }
    const uptr read_to = range.end > begin ? range.end : begin;
    if (!map.failed() || read_to >= end) return true;
    pin_own_parts(pool, read_to, end);
    return freeze_own_parts(pool, read_to, end, PROT_READ | PROT_WRITE);
}

void drop_staged_copies() {
    if (staged != 0) {
        sys::munmap(staged, staged_bytes);
        staged = 0;
        staged_bytes = 0;
    }
}

void take_staged_copies(PoolHere& pool) {
    uptr from = staged;
    for (OwnRun run = next_own_run(pool, 0); run.count != 0;
         run = next_own_run(pool, run.first + run.count)) {
        const long result = sys::mremap(from, bytes_of(run), bytes_of(run),
                                        MREMAP_MAYMOVE | MREMAP_FIXED, address_of(run));
        if (sys::failed(result)) {
            fatal("fork: cannot put the child's heap at ", Hex{address_of(run)}, ": ",
                  Errno{result});
        }
        from += bytes_of(run);
        pool.set_state(run.first, run.count, ChunkView::frozen);
    }
    staged = 0;
    staged_bytes = 0;
}

}  // namespace aep
