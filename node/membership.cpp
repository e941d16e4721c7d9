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
#include "shim/backing/populate.hpp"

namespace aep {
namespace {

/// How often a node is looked at that is to be taken over.
constexpr int LOOK_AGAIN_MS = 20;

/// So many damaged words are told of one by one; the others are counted.
constexpr u64 MOST_TOLD = 16;

constexpr u32 number(u32 node) { return node + 1; }  // for people

/// The pool's tables of what nodes share. Throws NodeError: there are none, or they have no such node.
era::Tables tables_of_nodes(const PoolHere& pool, u32 node) {
    const Superblock& s = pool.file.superblock;
    if (s.era.nodes == 0) {
        throw NodeError(ENOTSUP,
                        fmt::format("pool {}: is too small to be shared between nodes: let a "
                                    "new one of {} MiB or more be created",
                                    pool.file.path, era::MIN_SHARED_POOL_BYTES / MiB));
    }
    if (node >= s.era.nodes) {
        throw NodeError(EINVAL, fmt::format("pool {}: has nodes 1 to {}, not {}: give one of them",
                                            pool.file.path, s.era.nodes, number(node)));
    }
    return era::tables_in(reinterpret_cast<void*>(pool_mapping_base(pool.file)), shape_of(s));
}

}  // namespace

Membership::Membership(const PoolHere& pool, int pool_fd, const MembershipOptions& options,
                       const std::string& name, Log log)
    : pool_(pool),
      pool_fd_(pool_fd),
      options_(options),
      name_(name),
      log_(std::move(log)),
      tables_(tables_of_nodes(pool, options.node)),
      liveness_(pool, pool_fd, tables_, options.node, options.kind, options.engine),
      seen_(tables_.shape.nodes) {
    if (options_.engine != nullptr) options_.engine->begin(pool.file.superblock);
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
    return era::with_memory(*options_.caches, std::forward<F>(f));
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
                                        "system: free some",
                                        pool_.file.path, number(node)));
        }
    }
}

/// Nodes of other machines, where none may be: their caches would hide from each other what they write; or nobody would know
/// whether they are dead. Throws NodeError.
void Membership::refuse_other_machines() const {
    const bool incoherent = pool_.file.superblock.terms.coherent == Coherence::no;
    if (!incoherent && options_.kind != MembershipKind::lock) return;
    for (u32 i = 0; i < tables_.shape.nodes; ++i) {
        if (i == options_.node || !era::is_live(tables_, i) || !liveness_.is_elsewhere(i)) continue;
        throw NodeError(
            EBUSY,
            fmt::format("pool {}: node {} is of another machine, {}", pool_.file.path, number(i),
                        incoherent ? "and the pool says that caches are not coherent: nodes of one "
                                     "machine at a time can share it; take that one down first"
                                   : "whose locks are not seen here: --membership auto, "
                                     "manual or corosync, not lock"));
    }
}

/// Makes the own node free. Throws NodeError: somebody is that node, or may be.
void Membership::end_former_life() {
    const era::Tables& t = tables_;
    const u32 node = options_.node;
    for (;;) {
        const era::NodeWord word{t.node(node).load()};
        if (word.state() == era::NodeState::free) return;
        // While a living node recovers it: soon it is free.
        const u32 by = word.state() == era::NodeState::recovering ? t.node_of(word.by()) : node;
        const bool others = by != node && by < t.shape.nodes;
        const NodeStanding at_it =
            others ? liveness_.judge(by, monotonic_ms()) : NodeStanding::fenced;
        if (at_it == NodeStanding::suspect) {
            throw NodeError(EBUSY,
                            fmt::format("pool {}: node {} is being recovered by node {}, which "
                                        "is silent: {}",
                                        pool_.file.path, number(node), number(by), how_to_end(by)));
        }
        if (at_it == NodeStanding::fenced) {
            const Former former = liveness_.judge_former(monotonic_ms());
            if (former == Former::dead) {
                log_(LogLevel::info,
                     fmt::format("node {} was another context's: recovering it", number(node)));
                with_memory([&](auto& m) { return era::recover_former(m, t, node, disposal()); });
                continue;
            }
            refuse_former(former);
        }
        poll(nullptr, 0, LOOK_AGAIN_MS);
    }
}

/// Throws NodeError unless it is too early to say what the own node's former life is.
void Membership::refuse_former(Former former) const {
    const std::string what =
        fmt::format("pool {}: node {}", pool_.file.path, number(options_.node));
    switch (former) {
        case Former::locked:
            throw NodeError(
                EBUSY, what + " is taken: its daemon or clients of it live: give another --node");
        case Former::beating:
            throw NodeError(EBUSY, what + " is taken: it gives signs of life: give another --node");
        case Former::unknown:
            throw NodeError(EBUSY, fmt::format("{} is another machine's, or that of a machine that "
                                               "has no /etc/machine-id, and silent: {}; or give "
                                               "another --node",
                                               what, how_to_end(options_.node)));
        case Former::dead:
        case Former::waited:
            return;
    }
}

/// What people are to do about a node that is suspect.
std::string Membership::how_to_end(u32 node) const {
    return fmt::format(
        "it is waited for; when it is known to be cut off, say so to a node that is up: "
        "aep node dead {} --generation {}",
        number(node), era::NodeWord{tables_.node(node).load()}.generation());
}

u32 Membership::join() {
    const u32 node = options_.node;
    const std::string what = fmt::format("pool {}: node {}", pool_.file.path, number(node));
    if (!set_file_lock(pool_fd_, F_WRLCK, DAEMON_LOCKS_OFFSET + node)) {
        if (!is_in_the_way(errno))
            throw NodeError(errno, what + " cannot be locked: " + errno_text(errno));
        throw NodeError(EBUSY, what + " is served by another daemon: give another --node");
    }
    refuse_other_machines();
    if (!has_quorum()) {
        throw NodeError(EAGAIN, fmt::format("{} cannot be joined: {} has no quorum here", what,
                                            options_.engine->name()));
    }
    make_present();
    end_former_life();
    const era::Tables& t = tables_;
    for (u32 i = 0; i < t.shape.clients; ++i) {
        era::DirectoryEntry& entry = t.client(node, i);
        entry.claim.store(0);
        entry.id.store(0);
        entry.attendance.store(0);
        entry.version.store((entry.version.load() + 1) & ~u64{1});  // of whoever died changing it
    }
    t.entry(node).mail.store(t.all_nodes());  // what came to a former life is looked for
    const era::NodeWord live = with_memory([&](auto& m) { return era::join(m, t, node); });
    if (live.bits == 0)
        throw NodeError(EBUSY,
                        what + " was taken by another machine just now: give another --node");
    AEP_MEMBER_CRASH_POINT("join: live");
    generation_ = live.generation();
    return generation_;
}

bool Membership::continue_as(u32 generation) {
    generation_ = generation;
    if (!set_file_lock(pool_fd_, F_WRLCK, DAEMON_LOCKS_OFFSET + options_.node)) return false;
    if (!stands()) return false;
    // Unless a former daemon died before it did so: meanwhile nobody would know the lock of our clients.
    if (tables_.entry(options_.node).generation.load() != generation_) introduce();
    return true;
}

void Membership::introduce() {
    era::NodeEntry& entry = tables_.entry(options_.node);
    with_memory([&](auto& m) {
        m.store(entry.generation, 0);
        m.store(entry.pool_entry, pool_.owner.node);
        m.store(entry.pool_generation, pool_.owner.generation);
        __builtin_memcpy(entry.boot_id, liveness_.boot_id(), sizeof entry.boot_id);
        entry.machine = liveness_.machine();
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
    try {
        refuse_other_machines();  // one that came at the same time
    } catch (const NodeError&) {
        leave();
        throw;
    }
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

const char* Membership::state_of(u32 node) const {
    if (node == options_.node) return stands() ? "live" : "fenced";
    if (!era::is_live(tables_, node)) return "dead";
    switch (standing_of(node)) {
        case NodeStanding::live:
            return "live";
        case NodeStanding::suspect:
            return "suspect";
        case NodeStanding::fenced:
            return "fenced";
    }
    return "live";
}

const char* Membership::engine_name() const {
    if (options_.engine != nullptr) return options_.engine->name();
    if (options_.kind != MembershipKind::automatic)
        return options_.kind == MembershipKind::lock ? "lock" : "manual";
    for (u32 i = 0; i < tables_.shape.nodes; ++i)
        if (i != options_.node && era::is_live(tables_, i) && liveness_.is_elsewhere(i))
            return "manual";
    return "lock";
}

void Membership::say(u32 node, NodeStanding before, NodeStanding now) {
    if (before == now) return;
    const std::string name = printable(tables_.entry(node).name, sizeof tables_.entry(node).name);
    const std::string who = fmt::format("node {} ({})", number(node), name);
    if (now == NodeStanding::suspect) {
        log_(LogLevel::warning,
             fmt::format("{} is suspect: it gives no sign of life; {}", who, how_to_end(node)));
    } else if (now == NodeStanding::live && before == NodeStanding::suspect) {
        log_(LogLevel::info, fmt::format("{} is suspect no more: it lives", who));
    }
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
        NodeStanding now = NodeStanding::live;
        if (i != options_.node && word.state() != era::NodeState::free)
            now = begun ? NodeStanding::fenced : liveness_.judge(i, now_ms);
        say(i, standing_of(i), now);
        seen_[i] = {word.bits, now};
        if (now == NodeStanding::fenced && has_quorum() && recover(i)) ++recovered;
    }
    return recovered;
}

/// False: another node is at it.
bool Membership::recover(u32 node) {
    const era::Tables& t = tables_;
    AEP_MEMBER_CRASH_POINT("nodes: one is dead");
    const era::Status status = with_memory([&](auto& m) {
        era::Lane lane(m, t, options_.node, t.shape.lanes - 1,
                       era::NodeWord::make(era::NodeState::live, generation_));
        const era::Disposal disposing = disposal();
        return era::Recovery(lane, disposing).recover(node);
    });
    if (status != era::Status::ok && status != era::Status::damaged) return false;
    AEP_MEMBER_CRASH_POINT("nodes: one is recovered");
    const std::string name = printable(t.entry(node).name, sizeof t.entry(node).name);
    log_(LogLevel::warning, fmt::format("node {} ({}) is dead: recovered", number(node), name));
    return true;
}

void Membership::leave() {
    if (!stands()) return;
    with_memory(
        [&](auto& m) { return era::recover_former(m, tables_, options_.node, disposal()); });
    AEP_MEMBER_CRASH_POINT("nodes: left");
}

}  // namespace aep
