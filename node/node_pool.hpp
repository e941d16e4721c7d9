// Purpose: the pool that this host's context takes its chunks from: opened, mapped, verified.
// Who calls it: the node host and its parts.
// Crash rule: the mapping dies with the process; the node's lock goes with the last description.
#pragma once

#include <string>

#include "dsm-core/context/format.hpp"
#include "node/node_options.hpp"
#include "node/unique_fd.hpp"
#include "shim/backing/pool_shared.hpp"

namespace aep {

class NodePool {
  public:
    NodePool() = default;
    ~NodePool();  // unmaps
    NodePool(const NodePool&) = delete;
    NodePool& operator=(const NodePool&) = delete;

    /// The file that the options name; or the one that the context was made with, or its own.
    static std::string path_by(const NodeOptions& options);
    /// Opens, maps and verifies the pool at `path`, once; `as_node`: to share it with other nodes.
    /// A new one is made where that is meant. Throws NodeError.
    void open(const NodeOptions& options, const std::string& path, bool as_node);
    bool is_open() const { return mapped_; }
    /// So that a daemon that is started without --pool finds it. Throws NodeError.
    void leave_link(const ContextPaths& paths) const;
    /// Whether it is the pool that a context says, and all that it says of it.
    bool is_of(const ContextConstants& constants) const;

    /// The context is that node of it from now on.
    void own(Owner owner) {
        pool_.owner = owner;
        pool_.has_node = true;
    }
    /// Who it is in the words of nodes that it reclaims (PoolNodeWord::reclaimer).
    void reclaim_as(u32 reclaimer) { pool_.reclaimer = reclaimer; }
    /// Reclaims some of the pool's dead nodes, others with each call. Chunks that became free.
    u32 reclaim_dead();

    /// Chunks that the pool has got since this was asked last; 0: it has not grown.
    u32 new_chunks();

    /// Copies `bytes` from that address of the heap window, which a client may have chosen, to `to`: for people, for the host
    /// has no chunk mapped. False: they do not lie in one chunk of the pool, or cannot be read (the file was cut short,
    /// another node's machine is gone). What was read may be of several moments. Cost: see read_pool().
    bool read(u64 address, void* to, usize bytes) const;

    int fd() const { return fd_.get(); }  // holds the node's lock, shared
    const PoolHere& here() const { return pool_; }
    const PoolFile& file() const { return pool_.file; }
    const PoolTables& tables() const { return pool_.tables; }
    Owner owner() const { return pool_.owner; }

  private:
    UniqueFd fd_;
    PoolHere pool_{};
    bool mapped_ = false;
    u32 next_dead_node_ = 0;
    u32 chunks_seen_ = 0;
};

}  // namespace aep
