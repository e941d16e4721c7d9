// Purpose: see liveness.hpp.
// Who calls it: see liveness.hpp.
// Crash rule: see liveness.hpp.
#include "node/liveness.hpp"

#include <fmt/format.h>

#include <fstream>

#include "node/believed.hpp"
#include "node/file_lock.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/sys/proc_file.hpp"

namespace aep {
namespace {

u64 read_machine_id() {
    constexpr size_t DIGITS = 32;
    std::string line;
    std::ifstream file("/etc/machine-id");
    std::getline(file, line);
    if (line.size() != DIGITS || line.find_first_not_of("0123456789abcdef") != std::string::npos)
        return 0;
    return fnv1a(reinterpret_cast<const u8*>(line.data()), line.size());
}

}  // namespace

Liveness::Liveness(const PoolHere& pool, int pool_fd, const era::Tables& tables, u32 own,
                   MembershipKind kind, MembershipEngine* engine)
    : pool_(pool),
      pool_fd_(pool_fd),
      tables_(tables),
      own_(own),
      kind_(kind),
      engine_(engine),
      of_one_system_(pool.file.memory != PoolMemory::device),
      machine_(read_machine_id()),
      signs_(pool.file.superblock.era.nodes) {
    read_boot_id(boot_id_);
}

/// Whether node `i` has said who it is, in the generation that its word tells of.
bool Liveness::is_introduced(u32 i) const {
    const era::NodeEntry& entry = tables_.entry(i);
    return entry.generation.load() == era::NodeWord{entry.word.load()}.generation();
}

bool Liveness::is_of_this_boot(u32 i) const {
    return is_introduced(i) &&
           __builtin_memcmp(tables_.entry(i).boot_id, boot_id_, sizeof boot_id_) == 0;
}

bool Liveness::is_elsewhere(u32 i) const { return is_introduced(i) && !is_of_this_boot(i); }

/// Whether it is one of this system, and says which lock tells of it. Who has not said yet who he is, of a pool that no
/// other machine can map, is this system's.
bool Liveness::has_lock_here(u32 i) const {
    if (!is_introduced(i)) return of_one_system_;
    return is_of_this_boot(i) && tables_.entry(i).pool_entry.load() < pool_.tables.node_count;
}

bool Liveness::is_judged_by_lock(u32 i) const {
    return (kind_ == MembershipKind::automatic || kind_ == MembershipKind::lock) &&
           has_lock_here(i);
}

/// Of a node of this system: whether its daemon or a client of it lives. All of them lock its entry in the pool; before it
/// has one its daemon, and nobody else, locks the node.
bool Liveness::is_locked(u32 i) const {
    if (!is_introduced(i)) return i != own_ && somebody_locks(pool_fd_, DAEMON_LOCKS_OFFSET + i);
    const u64 of_pool = tables_.entry(i).pool_entry.load();
    const u32 generation = static_cast<u32>(tables_.entry(i).pool_generation.load());
    if (of_pool >= pool_.tables.node_count) return true;  // it has just been changed
    const PoolNodeWord owner = pool_.tables.node(static_cast<u32>(of_pool));
    return owner.bits == PoolNodeWord::make(PoolNodeState::live, generation).bits &&
           somebody_locks(pool_fd_, NODE_LOCK_OFFSET + of_pool);
}

/// Whether the node's word and beat have not changed for as long as a lease lasts.
bool Liveness::watch(u32 i, u64 now_ms) {
    Sign& sign = signs_[i];
    const u64 word = tables_.node(i).load();
    const u64 beat = tables_.entry(i).beat.load();
    if (sign.since_ms == 0 || sign.word != word || sign.beat != beat) {
        sign.beats = sign.since_ms != 0;
        sign.word = word;
        sign.beat = beat;
        sign.since_ms = now_ms == 0 ? 1 : now_ms;
    }
    return silent_ms(i, now_ms) >= pool_.file.superblock.terms.lease_ms;
}

u64 Liveness::silent_ms(u32 i, u64 now_ms) const {
    const u64 since = signs_[i].since_ms;
    return since == 0 || now_ms < since ? 0 : now_ms - since;
}

NodeStanding Liveness::judge(u32 i, u64 now_ms) {
    const bool silent = watch(i, now_ms);
    if (is_judged_by_lock(i)) return is_locked(i) ? NodeStanding::live : NodeStanding::fenced;
    const u32 generation = era::NodeWord{tables_.node(i).load()}.generation();
    if (signs_[i].cut_off == generation) return NodeStanding::fenced;
    if (engine_ == nullptr) return silent ? NodeStanding::suspect : NodeStanding::live;
    const era::NodeEntry& entry = tables_.entry(i);
    return engine_->judge({.node = i,
                           .generation = generation,
                           .name = printable(entry.name, sizeof entry.name),
                           .silent_ms = silent_ms(i, now_ms),
                           .silent = silent},
                          now_ms);
}

Former Liveness::judge_former(u64 now_ms) {
    const bool silent = watch(own_, now_ms);
    if (has_lock_here(own_)) return is_locked(own_) ? Former::locked : Former::dead;
    if (signs_[own_].beats) return Former::beating;
    if (!silent) return Former::waited;
    // A machine is not up twice: what it was before it booted has ended.
    const bool rebooted =
        is_elsewhere(own_) && machine_ != 0 && tables_.entry(own_).machine == machine_;
    return rebooted ? Former::dead : Former::unknown;
}

std::string Liveness::declare_cut_off(u32 i, u32 generation, u64 now_ms) {
    const std::string name = fmt::format("node {}", i + 1);
    if (i >= tables_.shape.nodes)
        return fmt::format("the pool has nodes 1 to {}, not {}: aep status shows them",
                           tables_.shape.nodes, i + 1);
    if (i == own_) return name + " is this one: say it to another one";
    const era::NodeWord word{tables_.node(i).load()};
    if (word.state() == era::NodeState::free)
        return name + " is nobody: there is nothing to recover; aep status shows who there is";
    if (word.generation() != generation) {
        return fmt::format("{} is in generation {} now, not {}: look again at what was cut off",
                           name, word.generation(), generation);
    }
    const NodeStanding now = judge(i, now_ms);
    if (now == NodeStanding::live) {
        return fmt::format("{} {}: it has not been cut off; end it, or cut it off, first", name,
                           is_judged_by_lock(i) ? "lives on this system, as its locks say"
                                                : "has given a sign of life within its lease");
    }
    signs_[i].cut_off = generation;
    return "";
}

}  // namespace aep
