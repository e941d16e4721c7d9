// Purpose: the node's entry in the pool's node table: taken with a lock that shuts everybody out,
//          then kept by shared locks, one of the host and one of each client.
// Who calls it: host.cpp.
// Crash rule: until the lock is shared it is the host's alone and goes with it; afterwards the node
//             is dead when the last of its clients is, too.
#include <errno.h>
#include <fcntl.h>

#include "node/file_lock.hpp"
#include "node/host.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/sys/proc_file.hpp"

namespace aep {
namespace {

bool share_node_lock(int fd, u32 node) {
    return set_file_lock(fd, F_RDLCK, static_cast<u64>(NODE_LOCK_OFFSET) + node);
}

void describe_process(NodeEntry& entry, const std::string& name) {
    entry.pid = static_cast<u32>(getpid());
    entry.start_time = start_time_of(getpid());
    __builtin_memset(entry.name, 0, sizeof entry.name);
    name.copy(entry.name, sizeof entry.name - 1);
}

/// Of an entry that is not live: other machines judge a live one by this.
void describe(NodeEntry& entry, const std::string& name, const Membership* membership) {
    describe_process(entry, name);
    read_boot_id(entry.boot_id);
    entry.era_node = membership == nullptr ? 0 : membership->node() + 1;
    entry.era_generation = membership == nullptr ? 0 : membership->generation();
}

}  // namespace

Owner NodeHost::take_entry() {
    const PoolTables& tables = pool_->tables;
    const int fd = pool_fd_.get();
    // On a device each node has entries that it alone takes: locks tell of this system only.
    const bool of_machines = pool_->file.memory == PoolMemory::device;
    const u32 first = of_machines ? membership_->node() : 0;
    const u32 step = of_machines ? pool_->file.superblock.era.nodes : 1;
    // Free entries first: where all live long, nobody's lock is tried.
    for (int round = 0; round < 2; ++round) {
        for (u32 i = first; i < tables.node_count; i += step) {
            const bool free = tables.node(i).state() == NodeState::free;
            if (free != (round == 0)) continue;
            const NodeLock lock = try_node_lock(fd, i);
            if (lock == NodeLock::failed) {
                throw NodeError(ENOLCK,
                                std::string("pool ") + pool_->file.path +
                                    ": its file system has no locks: " + errno_text(ENOLCK));
            }
            if (lock == NodeLock::held) continue;
            if (tables.node(i).state() != NodeState::free &&
                reclaim_node(pool_->file, tables, fd, i, pool_->reclaimer) < 0) {
                release_node_lock(fd, i);
                continue;
            }
            describe(tables.nodes[i], options_.paths.name, membership_.get());
            const Owner owner{i, tables.node(i).generation() + 1};
            // release: who sees the node live sees who it is.
            tables.nodes[i].word.store(NodeWord::make(NodeState::live, owner.generation).bits,
                                       std::memory_order_release);
            if (!share_node_lock(fd, i)) {
                throw NodeError(errno, std::string("pool ") + pool_->file.path +
                                           ": cannot share the node's lock: " + errno_text(errno));
            }
            pool_->owner = owner;
            pool_->has_node = true;
            return owner;
        }
    }
    throw NodeError(ENOSPC, std::string("pool ") + pool_->file.path +
                                ": every entry of its node table is in use");
}

/// Goes on as the node that the context is. False: it was reclaimed, or is being reclaimed.
bool NodeHost::share_entry(Owner owner) {
    if (owner.node >= pool_->tables.node_count || !share_node_lock(pool_fd_.get(), owner.node)) {
        return false;
    }
    const NodeWord word = pool_->tables.node(owner.node);
    if (word.bits != NodeWord::make(NodeState::live, owner.generation).bits) {
        release_node_lock(pool_fd_.get(), owner.node);
        return false;
    }
    describe_process(pool_->tables.nodes[owner.node], options_.paths.name);
    pool_->owner = owner;
    pool_->has_node = true;
    return true;
}

}  // namespace aep
