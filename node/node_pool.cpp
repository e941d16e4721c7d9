// Purpose: see node_pool.hpp.
// Who calls it: see node_pool.hpp.
// Crash rule: see node_pool.hpp.
#include "node/node_pool.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>

#include "node/node_error.hpp"
#include "node/pool_terms.hpp"

namespace aep {
namespace {

/// Entries of the node table that one sweep looks at.
constexpr u32 LOOKED_AT_ONCE = 32;

}  // namespace

NodePool::~NodePool() {
    if (!mapped_) return;
    unmap_pool_file(pool_.file, nullptr, pool_mapping_end(pool_.file));
}

std::string NodePool::path_by(const NodeOptions& options) {
    char real[PATH_MAX];
    if (!options.pool.empty())
        return realpath(options.pool.c_str(), real) != nullptr ? real : options.pool;
    // What leave_link() left, or the context's own pool.
    const std::string own = options.paths.pool();
    const ssize_t length = readlink(own.c_str(), real, sizeof real - 1);
    return length > 0 ? std::string(real, static_cast<size_t>(length)) : own;
}

void NodePool::open(const NodeOptions& options, const std::string& path, bool as_node) {
    // A pool that is named is one that others name, too: a new one only where that is meant.
    if (path != options.paths.pool() && options.pool_bytes == 0 &&
        access(path.c_str(), F_OK) != 0) {
        if (errno != ENOENT) require(-errno, fmt::format("pool {}: cannot be looked at", path));
        throw NodeError(ENOENT, fmt::format("pool {}: is not there; name one that is, or say with "
                                            "--pool-size how large a new one is to be",
                                            path));
    }
    fd_ = UniqueFd(open_pool_file(pool_.file, path.c_str(),
                                  {.bytes = options.pool_bytes, .terms = options.terms},
                                  as_node ? PoolUser::node : PoolUser::process));
    if (!fd_) throw NodeError(EINVAL, fmt::format("pool {}: see the line above", path));
    require_terms(path, pool_.file.superblock.terms, options.terms);
    require(map_pool_file(pool_.file, fd(), nullptr), fmt::format("pool {}: cannot map it", path));
    mapped_ = true;
    require(open_era_region(pool_.file), fmt::format("pool {}: cannot map what nodes share", path));
    pool_.tables = tables_of(reinterpret_cast<void*>(pool_mapping_base(pool_.file)),
                             shape_of(pool_.file.superblock));
    if (const PoolFault fault = verify_words(pool_.tables, pool_.file.superblock)) {
        throw NodeError(EINVAL, fmt::format("pool {}: {} at offset {} is {:#x}, expected {:#x}: {}",
                                            path, fault.field, fault.offset, fault.found,
                                            fault.expected, fault.advice));
    }
    pool_.attached = true;
    chunks_seen_ = pool_.tables.chunks_there();
}

void NodePool::leave_link(const ContextPaths& paths) const {
    const std::string link = paths.pool();
    const std::string target = pool_.file.path;
    struct stat st {};
    const bool there = lstat(link.c_str(), &st) == 0;
    if (target == link) return;
    // A pool of the context's own that is no longer used goes: it holds nothing that anyone has.
    if (there) unlink(link.c_str());
    if (symlink(target.c_str(), link.c_str()) != 0)
        throw NodeError(errno, fmt::format("link {}: {}", link, errno_text(errno)));
}

bool NodePool::is_of(const ContextConstants& constants) const {
    const Superblock& s = pool_.file.superblock;
    const bool is_node = constants.era_node != era::NO_NODE;
    return __builtin_memcmp(s.uuid, constants.pool_uuid, sizeof constants.pool_uuid) == 0 &&
           constants.pool == shape_of(s) &&
           constants.pool_address == pool_mapping_base(pool_.file) &&
           (!is_node || constants.era_node < s.era.nodes) &&
           constants.era_objects == (is_node ? s.era.objects : 0);
}

u32 NodePool::new_chunks() {
    const u32 there = pool_.tables.chunks_there();
    const u32 more = there > chunks_seen_ ? there - chunks_seen_ : 0;
    chunks_seen_ = there;
    return more;
}

bool NodePool::read(u64 address, void* to, usize bytes) const {
    const u64 all = u64{tables().chunk_count} * CHUNK_SIZE;
    const u64 from = address - HEAP_BASE;
    if (address < HEAP_BASE || from >= all || bytes > CHUNK_SIZE - from % CHUNK_SIZE) return false;
    return read_pool(file(), fd(), to, bytes, file().superblock.chunks_offset + from);
}

u32 NodePool::reclaim_dead() {
    const long freed = reclaim_dead_nodes(pool_, next_dead_node_, LOOKED_AT_ONCE);
    next_dead_node_ = (next_dead_node_ + LOOKED_AT_ONCE) % pool_.tables.node_count;
    return freed > 0 ? static_cast<u32>(freed) : 0;
}

}  // namespace aep
