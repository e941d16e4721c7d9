// Purpose: the pool backing: chunks of a pool file that several processes share, each a node of
//          its own.
// Who calls it: shim/driver/allocator.cpp through `Backing`; preload/ attaches it when AEP_POOL is set.
// Crash rule: a chunk is free and clean, or owned by a node. A dead node's lock is gone, and
//             whoever needs a chunk or a node entry takes back what it held.
//
// No file descriptor stays open: programs close them all. The shared mapping and the node's lock
// live in mappings; where a descriptor is needed (a new node, reclaim, a forked child) the path is
// opened again, and where it does not lead to the pool any more (chroot, unlinked, no descriptor
// left) the process goes on with anonymous chunks beyond the pool.
#include "shim/backing/pool_backing.hpp"

#include <errno.h>

#include "dsm-core/pool/crash_points.hpp"
#include "shim/backing/anonymous_backing.hpp"
#include "shim/backing/backing.hpp"
#include "shim/backing/freeze.hpp"
#include "shim/backing/futex_waiters.hpp"
#include "shim/backing/headroom.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/backing/pool_clean.hpp"
#include "shim/backing/pool_pages.hpp"
#include "shim/backing/populate.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/process_lock.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

Backing backing{};

ProcessLock lock{LockName::pool_chunks};      // provide and release, one at a time
u32 next_candidate AEP_GUARDED_BY(lock) = 0;  // where the search for free chunks begins
bool froze_chunks = false;                    // by the fork that is going on
bool said_unreachable = false;                // one message is enough

/// Dead nodes looked for when this process becomes one: keeps the memory of the dead from piling
/// up.
constexpr u32 SWEEP_AT_START = 32;
/// Waiting for another process that reclaims: 200 times 100 us.
constexpr int RECLAIM_WAITS = 200;
constexpr long RECLAIM_WAIT_NS = 100'000;

// ---- a node of our own

/// In a forked child that needs its first chunk. 0 or -errno.
long attach_again() {
    const int fd = reopen_pool_file(pool.file);
    if (fd < 0) return fd;
    const long mapped = map_pool_again(fd);
    sys::close(fd);
    if (sys::failed(mapped)) return mapped;
    AEP_POOL_CRASH_POINT("attach again: mapped");
    return 0;
}

/// Makes sure that the pool is mapped and this process is a node that no child has inherited. 0 or
/// -errno.
long become_node() {
    if (!pool.attached) {
        const long result = attach_again();
        if (sys::failed(result)) return result;
    }
    if (!pool.has_node) {
        const long result = take_node(pool);
        if (sys::failed(result)) return result;
        pool.has_node = true;
        reclaim_dead_nodes(pool, pool.owner.node + 1, SWEEP_AT_START);
    }
    return 0;
}

// ---- operations

/// Frees chunks of ours that are clean.
void give_back(u32 first, u32 count) {
    close_chunks_here(first, count, false);
    for (u32 i = first; i < first + count; ++i) {
        const ChunkWord word = pool.tables.chunk(i);
        pool.set_state(i, 1, ChunkView::other);
        free_chunk(pool.tables, {word.node(), word.generation()}, i);
        AEP_POOL_CRASH_POINT("release: one chunk");
    }
}

ChunkRun claim(u32 count, u32 align, u32 from, bool exact) {
    const ChunkIndex first =
        claim_run(pool.tables, pool.owner, count, align, from, exact, pool.here);
    if (first == NO_CHUNK) return {};
    const bool usable =
        map_metadata(first, count) && !sys::failed(open_chunks_here(raw(first), count));
    if (!usable) {  // no memory for metadata, or too many mappings
        give_back(raw(first), count);
        return {};
    }
    const bool huge = choose_pool_pages(chunk_address(first), count);
    pool.set_state(raw(first), count, ChunkView::ours);
    return {.first = first,
            .count = count,
            .zero = true,
            .coarse = huge || pool.file.is_copied_by_fork()};
}

ChunkRun claim_anywhere(u32 count, u32 align) AEP_UNDER(lock) {
    ChunkRun run = claim(count, align, next_candidate, false);
    if (!run && next_candidate != 0) run = claim(count, align, 0, false);
    if (run) next_candidate = raw(run.first) + count;
    return run;
}

void sleep_a_little() {
    struct {
        long seconds;
        long nanoseconds;
    } time = {0, RECLAIM_WAIT_NS};
    sys::call(__NR_nanosleep, sys::word(&time), 0);
}

/// No run is free: takes back what the dead hold, or waits a bounded time for others who do.
ChunkRun claim_after_reclaim(u32 count, u32 align) AEP_UNDER(lock) {
    for (int wait = 0;; ++wait) {
        const long freed = reclaim_dead_nodes(pool, 0, pool.tables.node_count);
        if (const ChunkRun run = claim_anywhere(count, align)) return run;
        if (freed < 0 || wait == RECLAIM_WAITS || !somebody_reclaims(pool.tables)) return {};
        sleep_a_little();
    }
}

ChunkRun provide_beyond(long error, u32 count, u32 align) {
    if (!said_unreachable) {
        said_unreachable = true;
        message("pool ", pool.file.path, ": process ", sys::getpid(),
                " cannot take more of it: ", Errno{error},
                error == -ENOSPC ? ": its node table is full of living processes" : "",
                error == -ESTALE ? ": the path leads to another file now" : "",
                "; going on with private memory");
    }
    return anonymous_provide(count, align, NO_CHUNK);
}

ChunkRun pool_provide(u32 count, u32 align, ChunkIndex at) {
    // No holder of it is lost by a fork: the driver forks while nobody provides or releases.
    const ProcessLockScope scope(lock);
    if (count == 0 || !is_power_of_two(align)) return {};
    if (at != NO_CHUNK && !in_pool(raw(at))) return anonymous_provide(count, align, at);
    const long result = become_node();
    if (sys::failed(result))
        return at == NO_CHUNK ? provide_beyond(result, count, align) : ChunkRun{};
    if (at != NO_CHUNK)
        return raw(at) % align == 0 ? claim(count, align, raw(at), true) : ChunkRun{};
    if (const ChunkRun run = claim_anywhere(count, align)) return run;
    return count <= pool.tables.chunk_count ? claim_after_reclaim(count, align) : ChunkRun{};
}

bool pool_commit(uptr address, usize bytes) {
    const u32 chunk = chunk_index(address);
    if (!in_pool(chunk)) return true;
    // A device has all the memory it will ever have, and no group is charged for it.
    if (pool.file.memory == PoolMemory::device && pool.state(chunk) == ChunkView::ours) return true;
    // Below a private OS page that fills a hole the system puts one into the file, too.
    const bool twice = pool.state(chunk) != ChunkView::ours && !pool.file.is_copied_by_fork();
    if (pool.state(chunk) == ChunkView::ours) choose_pool_pages_above(address);
    const CgroupRoom room(twice ? 2 * bytes : bytes);
    if (!room || !populate(address, bytes)) return false;
    note_pool_memory_used(bytes);
    return true;
}

/// Purges chunks that are private to this process. Where the pool's pages lie below the private
/// ones they show again: present, writable, not zero.
bool purge_frozen(uptr address, usize bytes) {
    const bool anonymous = pool.file.is_copied_by_fork();  // a child's copy
    return !sys::failed(sys::madvise(address, bytes, MADV_DONTNEED)) && anonymous;
}

/// Makes [address, address+bytes), part of one OS page, zero; not if that would need new memory.
bool clear_part(uptr address, usize bytes) {
    if (bytes == 0) return true;
    if (!populate(address, bytes)) return false;
    __builtin_memset(reinterpret_cast<void*>(address), 0, bytes);
    return true;
}

/// Gives back the whole OS pages of a range of shared chunks and clears the rest: on hugetlbfs a
/// range may begin and end within a page whose other part is in use. All of it or nothing.
bool purge_shared(uptr address, usize bytes) {
    if (pool.file.memory == PoolMemory::device)
        return false;  // nobody but a new owner of the chunk could use it
    const usize page = pool.file.page_bytes;
    const uptr begin = round_up(address, page);
    const uptr end = round_down(address + bytes, page);
    if (begin >= end || !clear_part(address, begin - address) ||
        !clear_part(end, address + bytes - end))
        return false;
    if (!sys::failed(sys::madvise(begin, end - begin, MADV_REMOVE))) return true;
    // Locked, or in part protected by the program: what was given back meanwhile must be there
    // again, because the range counts as usable.
    populate(begin, end - begin);
    return false;
}

bool pool_purge(uptr address, usize bytes) {
    const u32 chunk = chunk_index(address);
    if (!in_pool(chunk)) return anonymous_purge(address, bytes);
    note_pool_memory_unused(bytes);
    switch (pool.state(chunk)) {
        case ChunkView::ours:
            return purge_shared(address, bytes);
        case ChunkView::frozen:
            return purge_frozen(address, bytes);
        default:
            return false;
    }
}

bool pool_release(ChunkIndex first, u32 count) {
    const ProcessLockScope scope(lock);
    const u32 begin = raw(first);
    if (!in_pool(begin)) return anonymous_release(first, count);
    const uptr address = chunk_address(first);
    const usize bytes = usize{count} * CHUNK_SIZE;
    bool all_ours = true;
    for (u32 i = begin; i < begin + count; ++i)
        all_ours = all_ours && pool.state(i) == ChunkView::ours;
    if (!all_ours) {
        for (usize at = 0; at < bytes; at += CHUNK_SIZE) pool_purge(address + at, CHUNK_SIZE);
        return false;
    }
    if (!clean_chunks(pool.file, address, bytes)) return false;
    AEP_POOL_CRASH_POINT("release: punched");
    give_back(begin, count);
    next_candidate = begin < next_candidate ? begin : next_candidate;
    return true;
}

// ---- fork

bool pool_fork_prepare() {
    const ProcessLockScope scope(lock);
    const bool had_node = pool.has_node;
    const bool frozen = freeze_own_chunks(pool);
    froze_chunks = had_node && !pool.has_node;
    return frozen;
}

void pool_fork_parent() {
    drop_staged_copies();
    if (froze_chunks) {
        froze_chunks = false;
        wake_shared_waiters(pool);
    }
}

void pool_fork_child() {
    pool_in_child();
    froze_chunks = false;
    AEP_POOL_CRASH_POINT("fork: child");
    take_staged_copies(pool);
}

}  // namespace

const Backing* pool_backing(const char* path, usize bytes) {
    if (pool.attached) return &backing;
    const int fd = open_pool_file(pool.file, path, {.bytes = bytes}, PoolUser::process);
    if (fd < 0) return nullptr;
    const bool mapped = map_whole_pool(fd);
    sys::close(fd);
    if (!mapped) return nullptr;
    backing = {
        .provide = pool_provide,
        .commit = pool_commit,
        .purge = pool_purge,
        .release = pool_release,
        .is_scarce = pool_is_scarce,
        .fork_prepare = pool_fork_prepare,
        .fork_parent = pool_fork_parent,
        .fork_child = pool_fork_child,
        .max_chunks = MAX_CHUNKS,
    };
    return &backing;
}

bool commit_pool_memory(uptr address, usize bytes) { return pool_commit(address, bytes); }
bool purge_pool_memory(uptr address, usize bytes) { return pool_purge(address, bytes); }

bool before_fork_advice(uptr address, usize bytes) {
    if (pool.here == nullptr) return true;
    const ProcessLockScope scope(lock);
    return freeze_before_advice(pool, address, bytes);
}

}  // namespace aep
