// Purpose: makes this process a node of the pool: takes an entry of the node table, whose lock
//          lives exactly as long as some process maps the life token.
// Who calls it: pool_backing.cpp, when a process without a node needs a chunk.
// Crash rule: only the holder of an entry's lock writes the entry. Killed before the token is
//             mapped, the lock goes with the descriptor; afterwards with the last mapping of the
//             token.
#include <errno.h>
#include <sys/prctl.h>

#include "dsm-core/pool/crash_points.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/backing/pool_shared.hpp"
#include "shim/sys/proc_file.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

/// Field 22 of /proc/self/stat; 0 if there is none.
u64 read_start_time() {
    char text[1024];
    const usize length = read_small_file("/proc/self/stat", text, sizeof text);
    // The name in parentheses may hold anything: fields are counted from the last ')'.
    usize at = length;
    while (at != 0 && text[at - 1] != ')') --at;
    for (int field = 2; at < length && field < 22; ++at) field += text[at] == ' ';
    u64 value = 0;
    for (; at < length && text[at] >= '0' && text[at] <= '9'; ++at)
        value = value * 10 + static_cast<u64>(text[at] - '0');
    return value;
}

void describe(PoolNodeEntry& entry) {
    entry.pid = static_cast<u32>(sys::getpid());
    entry.start_time = read_start_time();
    read_boot_id(entry.boot_id);
    sys::call(__NR_prctl, PR_GET_NAME, sys::word(&entry.name));
    AEP_POOL_CRASH_POINT("node: described");
}

/// A mapping that does nothing but keep the description of `fd`, and so its lock. Its address or
/// -errno.
long map_token(const PoolFile& file, int fd) {
    const long at = sys::mmap(0, file.page_bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (sys::failed(at)) return at;
    const long advised = sys::madvise(static_cast<uptr>(at), file.page_bytes, MADV_DONTFORK);
    if (sys::failed(advised)) {
        sys::munmap(static_cast<uptr>(at), file.page_bytes);
        return advised;
    }
    return at;
}

/// Takes entry `i` if its owner is dead or it has none. 0 when it cannot be had, 1 when it is ours,
/// or -errno.
long take_entry(PoolHere& pool, int fd, u32 i) {
    const NodeLock lock = try_node_lock(fd, i);
    if (lock != NodeLock::taken) return lock == NodeLock::failed ? -ENOLCK : 0;
    AEP_POOL_CRASH_POINT("node: locked");
    if (pool.tables.node(i).state() != PoolNodeState::free) {
        const long freed = reclaim_node(pool.file, pool.tables, fd, i, pool.reclaimer);
        if (freed < 0) {
            release_node_lock(fd, i);
            return 0;  // its chunks could not be cleaned: another entry will do
        }
    }
    PoolNodeEntry& entry = pool.tables.nodes[i];
    describe(entry);
    const u32 generation = pool.tables.node(i).generation() + 1;
    // release: who sees the node live sees who it is.
    entry.word.store(PoolNodeWord::make(PoolNodeState::live, generation).bits,
                     std::memory_order_release);
    AEP_POOL_CRASH_POINT("node: live");
    const long token = map_token(pool.file, fd);
    if (sys::failed(token)) {
        entry.word.store(PoolNodeWord::make(PoolNodeState::free, generation).bits,
                         std::memory_order_release);
        release_node_lock(fd, i);
        return token;
    }
    AEP_POOL_CRASH_POINT("node: token mapped");
    pool.owner = {i, generation};
    pool.token = static_cast<uptr>(token);
    return 1;
}

}  // namespace

long take_node(PoolHere& pool) {
    const int fd = reopen_pool_file(pool.file);
    if (fd < 0) return fd;
    long result = 0;
    // Free entries first: where all live long, nobody's lock is tried.
    for (int round = 0; round < 2 && result == 0; ++round) {
        for (u32 i = 0; i < pool.tables.node_count && result == 0; ++i) {
            const bool free = pool.tables.node(i).state() == PoolNodeState::free;
            if (free == (round == 0)) result = take_entry(pool, fd, i);
        }
    }
    sys::close(fd);
    return result == 1 ? 0 : result == 0 ? -ENOSPC : result;
}

}  // namespace aep
