// Purpose: see membership.hpp.
// Who calls it: see membership.hpp.
// Crash rule: see membership.hpp.
#include "node/membership.hpp"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>

#include "dsm-core/context/format.hpp"
#include "dsm-core/era/recovery.hpp"
#include "node/believed.hpp"
#include "node/crash_points.hpp"
#include "node/file_lock.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/backing/populate.hpp"
#include "shim/sys/proc_file.hpp"

namespace aep {
namespace {

/// Byte of the pool file that the daemon of node 0 locks; node i's is i further.
constexpr u64 DAEMON_LOCKS_OFFSET = u64{1} << 59;
/// How often a node is looked at that is to be taken over.
constexpr int LOOK_AGAIN_MS = 20;

/// So many damaged words are told of one by one; the others are counted.
constexpr u64 MOST_TOLD = 16;

constexpr u32 number(u32 node) { return node + 1; }  // for people

}  // namespace

Membership::Membership(const PoolHere& pool, int pool_fd, const MembershipOptions& options,
                       const std::string& name, Log log)
    : pool_(pool), pool_fd_(pool_fd), options_(options), name_(name), log_(std::move(log)) {
    const Superblock& s = pool.file.superblock;
    const std::string path = pool.file.path;
    if (s.era.nodes == 0) {
        throw NodeError(ENOTSUP,
                        fmt::format("pool {}: is too small to be shared between nodes: let a "
                                    "new one of {} MiB or more be created",
                                    path, era::MIN_SHARED_POOL_BYTES / MiB));
    }
    if (options.node >= s.era.nodes) {
        throw NodeError(EINVAL, fmt::format("pool {}: has nodes 1 to {}, not {}", path, s.era.nodes,
                                            number(options.node)));
    }
    tables_ = era::tables_in(reinterpret_cast<void*>(pool_mapping_base(pool.file)), shape_of(s));
    read_boot_id(boot_id_);
    signs_.resize(s.era.nodes);
}

/// Objects' memory lies in chunks, which are the pool's business; there is nothing else to free.
era::Disposal Membership::disposal() {
    return {this, [](void*, u32) {}, [](void*, u32) { return true; },
            [](void* self, const era::Damage& d) { static_cast<Membership*>(self)->note(d); }};
}

void Membership::note(const era::Damage& damage) {
    if (++damaged_ > MOST_TOLD) return;
    const u64 at = pool_.file.superblock.era_offset + damage.offset;
    log_(LogLevel::error,
         fmt::format(
             "pool {}: {} of node {} at offset {} is {}, which no sound node wrote: skipped{}",
             pool_.file.path, damage.what, number(damage.node), at, damage.found,
             damaged_ == MOST_TOLD ? "; others are counted only: aep check shows them" : ""));
}

template <class F>
auto Membership::with_memory(F&& f) {
    return era::with_memory(options_.caches, std::forward<F>(f));
}

/// Stores to what nodes share never fail: what this node writes is made present.
void Membership::make_present() {
    const era::Tables& t = tables_;
    const uptr base = reinterpret_cast<uptr>(t.base);
    const u32 node = options_.node;
    const struct {
        usize begin, bytes;
    } parts[] = {
        {0, t.at.refs},
        {t.at.refs + node * t.at.refs_row, t.at.refs_row},
        {t.at.rings, t.at.objects - t.at.rings},
        {t.at.objects + t.first_object(node) * sizeof(era::ObjectEntry),
         t.objects_per_node() * sizeof(era::ObjectEntry)},
        {t.at.directory, t.at.bytes - t.at.directory},
    };
    for (const auto& part : parts) {
        const uptr begin = round_down(base + part.begin, OS_PAGE_SIZE);
        const uptr end = round_up(base + part.begin + part.bytes, OS_PAGE_SIZE);
        if (!populate(begin, end - begin)) {
            throw NodeError(ENOSPC,
                            fmt::format("pool {}: no memory for node {}'s tables on the file "
                                        "system",
                                        pool_.file.path, number(node)));
        }
    }
}

u32 Membership::join() {
    const u32 node = options_.node;
    const std::string what = fmt::format("pool {}: node {}", pool_.file.path, number(node));
    if (!set_file_lock(pool_fd_, F_WRLCK, DAEMON_LOCKS_OFFSET + node)) {
        if (!is_in_the_way(errno))
            throw NodeError(errno, what + " cannot be locked: " + errno_text(errno));
        throw NodeError(EBUSY, what + " is served by another daemon: give another --node");
    }
    make_present();
    const era::Tables& t = tables_;
    for (;;) {
        const era::NodeWord word{t.node(node).load()};
        if (word.state() == era::NodeState::free) break;
        // While a living node recovers it: soon it is free.
        const u32 by = word.state() == era::NodeState::recovering ? t.node_of(word.by()) : node;
        const bool recovered = by != node && by < t.shape.nodes && !is_dead(by, monotonic_ms());
        if (!recovered && is_dead(node, monotonic_ms())) {
            log_(LogLevel::info,
                 fmt::format("node {} was another context's: recovering it", number(node)));
            with_memory([&](auto& m) { return era::recover_former(m, t, node, disposal()); });
            continue;
        }
        if (!recovered && is_told_by_locks(node))
            throw NodeError(EBUSY, what + " is taken: its daemon or clients of it live");
        const Sign& sign = signs_[node];
        if (!recovered && sign.since_ms != 0 && t.entry(node).beat.load() != sign.beat)
            throw NodeError(EBUSY, what + " is taken: it gives signs of life");
        poll(nullptr, 0, LOOK_AGAIN_MS);
    }
    for (u32 i = 0; i < t.shape.clients; ++i) {
        era::DirectoryEntry& entry = t.client(node, i);
        entry.claim.store(0);
        entry.id.store(0);
        entry.version.store((entry.version.load() + 1) & ~u64{1});  // of whoever died changing it
    }
    const era::NodeWord live = with_memory([&](auto& m) { return era::join(m, t, node); });
    if (live.bits == 0) throw NodeError(EBUSY, what + " was taken by another machine just now");
    AEP_MEMBER_CRASH_POINT("join: live");
    generation_ = live.generation();
    return generation_;
}

bool Membership::continue_as(u32 generation) {
    generation_ = generation;
    if (!set_file_lock(pool_fd_, F_WRLCK, DAEMON_LOCKS_OFFSET + options_.node)) return false;
    if (!stands()) return false;
    introduce();
    return true;
}

void Membership::introduce() {
    era::NodeEntry& entry = tables_.entry(options_.node);
    with_memory([&](auto& m) {
        m.store(entry.generation, 0);
        m.store(entry.pool_entry, pool_.owner.node);
        m.store(entry.pool_generation, pool_.owner.generation);
        __builtin_memcpy(entry.boot_id, boot_id_, sizeof entry.boot_id);
        __builtin_memset(entry.name, 0, sizeof entry.name);
        name_.copy(entry.name, sizeof entry.name - 1);
        m.store(entry.generation, generation_);  // release: what it is of comes before
        m.flush(entry.generation);
        m.fence();
        return 0;
    });
    PoolNodeEntry& of_pool = pool_.tables.nodes[pool_.owner.node];
    of_pool.era_generation = generation_;
    of_pool.era_node = options_.node + 1;
}

bool Membership::stands() const {
    return tables_.node(options_.node).load() ==
           era::NodeWord::make(era::NodeState::live, generation_).bits;
}

u32 Membership::others() const {
    u32 count = 0;
    for (u32 i = 0; i < tables_.shape.nodes; ++i) {
        const era::NodeWord word{tables_.node(i).load()};
        count += i != options_.node && word.state() == era::NodeState::live;
    }
    return count;
}

/// Whether the node said who it is, and is one of this system, whose locks tell if it lives.
bool Membership::is_told_by_locks(u32 node) const {
    const era::NodeEntry& entry = tables_.entry(node);
    return !options_.only_leases &&
           entry.generation.load() == era::NodeWord{entry.word.load()}.generation() &&
           __builtin_memcmp(entry.boot_id, boot_id_, sizeof boot_id_) == 0;
}

/// Whether the node's word and beat have not changed for as long as a lease lasts.
bool Membership::was_silent(u32 node, u64 now_ms) {
    Sign& sign = signs_[node];
    const u64 word = tables_.node(node).load();
    const u64 beat = tables_.entry(node).beat.load();
    if (sign.since_ms == 0 || sign.word != word || sign.beat != beat) sign = {word, beat, now_ms};
    return now_ms - sign.since_ms >= lease_ms();
}

bool Membership::is_dead(u32 node, u64 now_ms) {
    const era::NodeEntry& entry = tables_.entry(node);
    const bool silent = was_silent(node, now_ms);
    if (!is_told_by_locks(node)) return silent;
    // Its entry in the pool is locked as long as its daemon or a client of it lives.
    const u64 of_pool = entry.pool_entry.load();
    if (of_pool >= pool_.tables.node_count) return silent;
    const PoolNodeWord owner = pool_.tables.node(static_cast<u32>(of_pool));
    return owner.bits != PoolNodeWord::make(PoolNodeState::live,
                                            static_cast<u32>(entry.pool_generation.load()))
                             .bits ||
           !somebody_locks(pool_fd_, NODE_LOCK_OFFSET + of_pool);
}

u32 Membership::beat_and_recover(u64 now_ms) {
    const era::Tables& t = tables_;
    if (!stands()) return 0;
    era::Word& beat = t.entry(options_.node).beat;
    beat.store(beat.load() + 1);
    u32 recovered = 0;
    for (u32 i = 0; i < t.shape.nodes; ++i) {
        const era::NodeWord word{t.node(i).load()};
        const u32 mine = t.writer(options_.node, t.shape.lanes - 1);
        const bool begun = word.state() == era::NodeState::recovering && word.by() == mine;
        if (i == options_.node || word.state() == era::NodeState::free) continue;
        if (!begun && !is_dead(i, now_ms)) continue;
        AEP_MEMBER_CRASH_POINT("nodes: one is dead");
        const era::Status status = with_memory([&](auto& m) {
            era::Lane lane(m, t, options_.node, t.shape.lanes - 1,
                           era::NodeWord::make(era::NodeState::live, generation_));
            const era::Disposal disposing = disposal();
            return era::Recovery(lane, disposing).recover(i);
        });
        if (status != era::Status::ok && status != era::Status::damaged) continue;  // another's
        AEP_MEMBER_CRASH_POINT("nodes: one is recovered");
        ++recovered;
        const std::string name = printable(t.entry(i).name, sizeof t.entry(i).name);
        log_(LogLevel::warning, fmt::format("node {} ({}) is dead: recovered", number(i), name));
    }
    return recovered;
}

void Membership::leave() {
    if (!stands()) return;
    with_memory(
        [&](auto& m) { return era::recover_former(m, tables_, options_.node, disposal()); });
    AEP_MEMBER_CRASH_POINT("nodes: left");
}

}  // namespace aep
