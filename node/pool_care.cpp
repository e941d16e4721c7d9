// Purpose: see pool_care.hpp.
// Who calls it: see pool_care.hpp.
// Crash rule: see pool_care.hpp.
#include "node/pool_care.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <map>

#include "dsm-core/era/region.hpp"
#include "dsm-core/pool/tables.hpp"
#include "node/believed.hpp"
#include "node/file_lock.hpp"
#include "node/node_error.hpp"
#include "node/pool_terms.hpp"
#include "node/unique_fd.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/backing/pool_device.hpp"
#include "shim/backing/pool_grow.hpp"
#include "shim/sys/careful.hpp"
#include "shim/sys/mapping.hpp"

namespace aep {
namespace {

constexpr u64 STAT_BLOCK = 512;
constexpr usize CLEARED_AT_ONCE = 1 * GiB;
/// A pool that people make has room for so many times its size.
constexpr usize USUAL_ROOM = 4;

std::string absolute(const std::string& path) {
    char real[PATH_MAX];
    return realpath(path.c_str(), real) != nullptr ? real : path;
}

/// A pool that is there, opened and judged.
struct OpenPool {
    PoolFile file{};
    UniqueFd fd;

    explicit OpenPool(const std::string& path) {
        const std::string real = absolute(path);
        if (real.size() >= sizeof file.path)
            throw NodeError(ENAMETOOLONG,
                            fmt::format("pool {}: too long a path, expected less than {} bytes",
                                        path, sizeof file.path));
        real.copy(file.path, sizeof file.path - 1);
        fd = UniqueFd(::open(real.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
        if (!fd) throw NodeError(errno, fmt::format("pool {}: {}", path, errno_text(errno)));
        if (!examine_pool_file(file, fd.get()))
            throw NodeError(EINVAL, fmt::format("pool {}: see the line above", path));
    }
};

/// Throws NodeError: it is not in memory.
void require_mapped(const OpenPool& pool, const Mapping& part) {
    if (!part.failed()) return;
    const int error = static_cast<int>(-part.error());
    throw NodeError(error,
                    fmt::format("pool {}: cannot map it: {}", pool.file.path, errno_text(error)));
}

bool is_locked(const OpenPool& pool, u32 entry) {
    return somebody_locks(pool.fd.get(), NODE_LOCK_OFFSET + u64{entry});
}

void see_chunks(const PoolTables& tables, PoolFacts& facts, std::map<u32, u64>& bytes_of) {
    for (u32 c = 0; c < tables.chunks_there(); ++c) {
        const ChunkWord word = tables.chunk(c);
        facts.free_bytes += word.bits == FREE_CHUNK.bits ? CHUNK_SIZE : 0;
        facts.kept_bytes += word.state() == ChunkState::kept ? CHUNK_SIZE : 0;
        facts.retired_bytes += word.bits == RETIRED_CHUNK.bits ? CHUNK_SIZE : 0;
        if (word.state() == ChunkState::owned) bytes_of[word.node()] += CHUNK_SIZE;
    }
}

void see_members(const OpenPool& pool, const era::Tables& t, u32 entries,
                 const std::map<u32, u64>& bytes_of, PoolFacts& facts) {
    for (u32 i = 0; i < t.shape.nodes; ++i) {
        const era::NodeWord word{t.node(i).load()};
        if (word.state() == era::NodeState::free) continue;
        const era::NodeEntry& entry = t.entry(i);
        const u64 own = entry.pool_entry.load();
        const bool here = own < entries && is_locked(pool, static_cast<u32>(own));
        const auto bytes = bytes_of.find(static_cast<u32>(own));
        facts.members.push_back({.node = i + 1,
                                 .name = printable(entry.name, sizeof entry.name),
                                 .state = word.state() == era::NodeState::recovering ? "recovering"
                                          : here                                     ? "live"
                                                                                     : "silent",
                                 .generation = word.generation(),
                                 .bytes = bytes == bytes_of.end() ? 0 : bytes->second});
    }
}

void clear_device(const OpenPool& pool, u64 all, const std::function<void(u64, u64)>& progress) {
    // From its beginning: what is cleared in part is no pool any more.
    for (u64 done = 0; done < all; done += CLEARED_AT_ONCE) {
        progress(done, all);
        const usize bytes = std::min<u64>(CLEARED_AT_ONCE, all - done);
        const Mapping part(pool.fd.get(), done, bytes, PROT_READ | PROT_WRITE);
        require_mapped(pool, part);
        if (!clear_carefully(part.at(), bytes)) {
            const u64 failed = done + failed_address() - reinterpret_cast<uptr>(part.at());
            throw NodeError(EIO, fmt::format("pool {}: memory at offset {} cannot be written: it "
                                             "has failed (dmesg); clear or replace it first",
                                             pool.file.path, failed));
        }
    }
    progress(all, all);
}

/// Whether what has that name may become a pool where it is: memory that somebody else has set aside.
bool is_set_aside(const std::string& path, const struct stat& st) {
    if (S_ISCHR(st.st_mode)) return true;
    if (!S_ISREG(st.st_mode)) return false;
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    return fd && is_dax_file(fd.get());
}

/// Of a device by the bus that it is on, of a file by what its file system lies on.
Persistence persistence_of(int fd) {
    struct stat st {};
    struct statfs fs {};
    if (fstat(fd, &st) != 0 || fstatfs(fd, &fs) != 0) return Persistence::unknown;
    if (!S_ISCHR(st.st_mode)) {
        const auto type = static_cast<u64>(fs.f_type);
        if (type == TMPFS_MAGIC || type == HUGETLBFS_MAGIC) return Persistence::none;
        return major(st.st_dev) != 0 ? Persistence::kept : Persistence::unknown;
    }
    char real[PATH_MAX];
    const std::string link =
        fmt::format("/sys/dev/char/{}:{}", major(st.st_rdev), minor(st.st_rdev));
    if (realpath(link.c_str(), real) == nullptr) return Persistence::unknown;
    // Persistent memory is on the bus of NVDIMMs, whatever it is attached by.
    return std::string(real).find("/ndbus") != std::string::npos ? Persistence::kept
                                                                 : Persistence::none;
}

}  // namespace

void make_pool(const std::string& path, const PoolPlan& plan) {
    struct stat st {};
    const bool there = lstat(path.c_str(), &st) == 0;
    if (there && !is_set_aside(path, st)) {
        throw NodeError(EEXIST, fmt::format("pool {}: something of that name is there already; aep "
                                            "pool info tells whether it is a pool",
                                            path));
    }
    PoolFile made{};
    PoolPlan roomy = plan;
    if (roomy.room == 0 && !there) {
        const usize bytes = plan.bytes == 0 ? DEFAULT_POOL_BYTES : plan.bytes;
        roomy.room = bytes < MAX_POOL_BYTES / USUAL_ROOM ? USUAL_ROOM * bytes : MAX_POOL_BYTES;
    }
    const UniqueFd fd(open_pool_file(made, path.c_str(), roomy, PoolUser::node));
    if (!fd) throw NodeError(EINVAL, fmt::format("pool {}: see the line above", path));
    const EraShape planned = era::shape_for(made.superblock.file_bytes, plan.sizes);
    if (!(made.superblock.era == planned)) {
        throw NodeError(EEXIST,
                        fmt::format("pool {}: it is one already, with other sizes; aep pool "
                                    "info shows them",
                                    path));
    }
    require_terms(path, made.superblock.terms, plan.terms);
}

PoolFacts look_at_pool(const std::string& path) {
    const OpenPool pool(path);
    const Superblock& s = pool.file.superblock;
    PoolFacts facts{.path = pool.file.path,
                    .memory = pool.file.memory,
                    .persistence = persistence_of(pool.fd.get()),
                    .room_bytes = s.room_bytes,
                    .shape = s.era,
                    .terms = s.terms,
                    .shared_bytes = s.era_bytes,
                    .members = {}};
    const Mapping head(pool.fd.get(), 0, s.chunks_offset, PROT_READ);
    require_mapped(pool, head);
    const PoolShape shape = shape_of(s);
    const PoolTables tables = tables_of(head.at(), shape);
    facts.bytes = facts.present = bytes_there(s, tables);
    facts.chunk_bytes = facts.bytes - s.chunks_offset;
    struct stat st {};
    if (pool.file.memory != PoolMemory::device && fstat(pool.fd.get(), &st) == 0)
        facts.present = static_cast<u64>(st.st_blocks) * STAT_BLOCK;
    std::map<u32, u64> bytes_of;
    see_chunks(tables, facts, bytes_of);
    for (u32 i = 0; i < tables.node_count; ++i)
        if (tables.node(i).state() != PoolNodeState::free)
            ++(is_locked(pool, i) ? facts.processes : facts.dead);
    if (s.era.nodes != 0)
        see_members(pool, era::tables_in(head.at(), shape), tables.node_count, bytes_of, facts);
    return facts;
}

void grow_pool(const std::string& path, u64 bytes, bool more) {
    const OpenPool pool(path);
    const Superblock& s = pool.file.superblock;
    const Mapping head(pool.fd.get(), 0, s.chunks_offset, PROT_READ | PROT_WRITE);
    require_mapped(pool, head);
    const PoolTables tables = tables_of(head.at(), shape_of(s));
    const u64 wanted = more ? bytes_there(s, tables) + bytes : bytes;
    if (!grow_pool_file(pool.file, pool.fd.get(), tables, wanted))
        throw NodeError(EINVAL, fmt::format("pool {}: see the line above", path));
}

void destroy_pool(const std::string& path, bool force,
                  const std::function<void(u64 done, u64 all)>& progress) {
    const PoolFacts facts = look_at_pool(path);
    if (facts.in_use() && !force) {
        throw NodeError(
            EBUSY, fmt::format("pool {}: {} processes and {} nodes use it (aep pool info): end "
                               "them first, or destroy it with --force",
                               path, facts.processes, facts.members.size()));
    }
    const OpenPool pool(path);
    if (pool.file.memory == PoolMemory::device) return clear_device(pool, facts.bytes, progress);
    if (unlink(pool.file.path) != 0)
        throw NodeError(errno, fmt::format("pool {}: {}", path, errno_text(errno)));
}

}  // namespace aep
