// Purpose: see freeze.hpp.
// Who calls it: pool_backing.cpp.
// Crash rule: the life token is handed to children before the first chunk becomes private: no
//             descendant ever maps a chunk that could be reclaimed under it.
#include "shim/freeze.hpp"

#include <errno.h>

#include "dsm-core/pool/crash_points.hpp"
#include "shim/headroom.hpp"
#include "shim/message.hpp"
#include "shim/syscall.hpp"

namespace aep {
namespace {

/// A run of chunks that are ours.
struct OwnRun {
    u32 first;
    u32 count;
};

/// The first run at or after `from`; count 0 if there is none.
OwnRun next_own_run(const PoolHere& pool, u32 from) {
    const u32 chunks = pool.tables.chunk_count;
    while (from < chunks && pool.state(from) != Here::ours) {
        ++from;
    }
    u32 end = from;
    while (end < chunks && pool.state(end) == Here::ours) {
        ++end;
    }
    return {from, end - from};
}

constexpr usize bytes_of(OwnRun run) { return usize{run.count} * CHUNK_SIZE; }
uptr address_of(OwnRun run) { return chunk_address(ChunkIndex{run.first}); }

/// Replaces the shared mapping of a run by the private view of the same part of the file: threads
/// that write meanwhile fault and go on in the private one, which shows all they have written.
bool freeze_run(PoolHere& pool, OwnRun run) {
    const uptr to = address_of(run);
    const uptr from = pool.private_view + (to - HEAP_BASE);
    const usize bytes = bytes_of(run);
    // Writable only now: with strict overcommit the system counts it from here on.
    long result = sys::mprotect(from, bytes, PROT_READ | PROT_WRITE);
    if (!sys::failed(result)) {
        result = sys::mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    }
    if (sys::failed(result)) {
        message("fork: cannot make ", Bytes{bytes}, " of heap at ", Hex{to},
                " private: ", Errno{result});
        return false;
    }
    pool.set_state(run.first, run.count, Here::frozen);
    AEP_POOL_CRASH_POINT("freeze: one run");
    return true;
}

// ---- hugetlbfs: a private mapping of huge pages could fail with SIGBUS at any later store, so the
// child gets a copy in
// ---- ordinary memory, made before the fork, and the parent goes on as it was.

/// One staged copy for all runs, in the order of the runs.
uptr staged = 0;
usize staged_bytes = 0;

/// Copies those huge pages of a run that exist; the others read as zero in the copy, too.
void copy_present(const PoolHere& pool, OwnRun run, uptr to) {
    const usize page = pool.file.page_bytes;
    for (usize at = 0; at < bytes_of(run); at += page) {
        u8 present[CHUNK_SIZE / OS_PAGE_SIZE];
        const uptr from = address_of(run) + at;
        if (!sys::failed(sys::mincore(from, page, present)) && (present[0] & 1) != 0) {
            __builtin_memcpy(reinterpret_cast<void*>(to + at), reinterpret_cast<void*>(from), page);
        }
    }
}

bool stage_copies(const PoolHere& pool) {
    usize bytes = 0;
    for (OwnRun run = next_own_run(pool, 0); run.count != 0;
         run = next_own_run(pool, run.first + run.count)) {
        bytes += bytes_of(run);
    }
    if (bytes == 0) {
        return true;
    }
    const long at = cgroup_has_room(bytes)
                        ? sys::mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
                        : -ENOMEM;
    if (sys::failed(at)) {
        message("fork: no memory to copy ", Bytes{bytes}, " of heap on hugetlbfs: ", Errno{at});
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

bool freeze_own_chunks(PoolHere& pool) {
    if (pool.file.hugetlb) {
        return stage_copies(pool);
    }
    OwnRun run = next_own_run(pool, 0);
    if (run.count == 0) {
        return true;
    }
    // From now on children keep this node alive. Chunks taken later must not depend on them: they
    // get a new node.
    sys::madvise(pool.token, pool.file.page_bytes, MADV_DOFORK);
    pool.has_node = false;
    AEP_POOL_CRASH_POINT("freeze: token inherited");
    for (; run.count != 0; run = next_own_run(pool, run.first + run.count)) {
        if (!freeze_run(pool, run)) {
            return false;
        }
    }
    AEP_POOL_CRASH_POINT("freeze: all runs");
    return true;
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
        pool.set_state(run.first, run.count, Here::frozen);
    }
    staged = 0;
    staged_bytes = 0;
}

}  // namespace aep
