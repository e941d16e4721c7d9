// Purpose: see node_entry.hpp.
// Who calls it: see node_entry.hpp.
// Crash rule: see node_entry.hpp.
#include "node/node_entry.hpp"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>

#include "node/file_lock.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/sys/proc_file.hpp"

namespace aep {
namespace {

bool share_node_lock(int fd, u32 node) {
    return set_file_lock(fd, F_RDLCK, NODE_LOCK_OFFSET + node);
}

void describe_process(PoolNodeEntry& entry, const std::string& name) {
    entry.pid = static_cast<u32>(getpid());
    entry.start_time = start_time_of(getpid());
    __builtin_memset(entry.name, 0, sizeof entry.name);
    name.copy(entry.name, sizeof entry.name - 1);
}

/// Of an entry that is not live: other machines judge a live one by this.
void describe(PoolNodeEntry& entry, const std::string& name, const Membership* member) {
    describe_process(entry, name);
    read_boot_id(entry.boot_id);
    entry.era_node = member == nullptr ? 0 : member->node() + 1;
    entry.era_generation = member == nullptr ? 0 : member->generation();
}

/// Makes the entry ours, whose lock we have and which is free or a dead node's. False: what it had
/// cannot all be given back.
bool take(NodePool& pool, u32 i, const std::string& name, const Membership* member) {
    const PoolTables& tables = pool.tables();
    if (tables.node(i).state() != PoolNodeState::free &&
        reclaim_node(pool.file(), tables, pool.fd(), i, pool.here().reclaimer) < 0)
        return false;
    describe(tables.nodes[i], name, member);
    const Owner owner{i, tables.node(i).generation() + 1};
    // release: who sees the node live sees who it is.
    tables.nodes[i].word.store(PoolNodeWord::make(PoolNodeState::live, owner.generation).bits,
                               std::memory_order_release);
    if (!share_node_lock(pool.fd(), i)) {
        throw NodeError(errno, fmt::format("pool {}: cannot share the node's lock: {}",
                                           pool.file().path, errno_text(errno)));
    }
    pool.own(owner);
    return true;
}

}  // namespace

Owner take_entry(NodePool& pool, const std::string& name, const Membership* member) {
    const PoolTables& tables = pool.tables();
    // On a device each node has entries that it alone takes: locks tell of this system only.
    const bool of_machines = pool.file().memory == PoolMemory::device;
    const u32 first = of_machines ? member->node() : 0;
    const u32 step = of_machines ? pool.file().superblock.era.nodes : 1;
    // Free entries first: where all live long, nobody's lock is tried.
    for (const bool wanted_free : {true, false}) {
        for (u32 i = first; i < tables.node_count; i += step) {
            if ((tables.node(i).state() == PoolNodeState::free) != wanted_free) continue;
            const NodeLock lock = try_node_lock(pool.fd(), i);
            if (lock == NodeLock::failed) {
                throw NodeError(
                    ENOLCK,
                    fmt::format("pool {}: its file system has no locks: {}: use tmpfs, ext4 or xfs",
                                pool.file().path, errno_text(ENOLCK)));
            }
            if (lock == NodeLock::held) continue;
            if (take(pool, i, name, member)) return pool.owner();
            release_node_lock(pool.fd(), i);
        }
    }
    throw NodeError(
        ENOSPC,
        fmt::format("pool {}: every entry of its node table is in use: end some of the processes "
                    "that use it (aep pool info)",
                    pool.file().path));
}

bool share_entry(NodePool& pool, const std::string& name, Owner owner) {
    const PoolTables& tables = pool.tables();
    if (owner.node >= tables.node_count || !share_node_lock(pool.fd(), owner.node)) return false;
    const PoolNodeWord word = tables.node(owner.node);
    if (word.bits != PoolNodeWord::make(PoolNodeState::live, owner.generation).bits) {
        release_node_lock(pool.fd(), owner.node);
        return false;
    }
    describe_process(tables.nodes[owner.node], name);
    pool.own(owner);
    return true;
}

}  // namespace aep
