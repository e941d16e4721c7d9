// Purpose: see pool_member.hpp.
// Who calls it: see pool_member.hpp.
// Crash rule: see pool_member.hpp.
#include "node/pool_member.hpp"

#include <errno.h>
#include <fmt/format.h>

#include <algorithm>

#include "node/context_state.hpp"
#include "node/node_error.hpp"
#include "node/write_back.hpp"

namespace aep {

void PoolMember::become() {
    membership_ = std::make_unique<Membership>(pool_.here(), pool_.fd(), options_, name_, log_);
}

void PoolMember::enter() {
    ContextHeader& h = context();
    if (h.era_node == era::NO_NODE) return;
    if (const u32 most = pool_.file().superblock.era.clients; most != 0 && h.max_clients >= most) {
        throw NodeError(EINVAL, fmt::format("context {}: a node has at most {} clients: lower "
                                            "--max-clients",
                                            name_, most - 1));
    }
    if (!options_.caches) options_.caches = usual_caches(pool_.file());
    become();
    h.pool_caches.store(static_cast<u32>(*options_.caches));
    h.era_generation.store(membership_->join());
    pool_.reclaim_as(PoolNodeWord::reclaimer(membership_->node(), membership_->generation()));
}

bool PoolMember::go_on(bool lives) {
    const ContextHeader& h = context();
    if (options_.node != era::NO_NODE && options_.node != h.era_node) {
        if (!lives) return false;
        const std::string is =
            h.era_node == era::NO_NODE ? "no node" : fmt::format("node {}", h.era_node + 1);
        throw NodeError(EINVAL, fmt::format("context {}: is {}, and its clients live: take it down "
                                            "first",
                                            name_, is));
    }
    if (h.era_node == era::NO_NODE) return true;
    options_.node = h.era_node;
    options_.caches = static_cast<era::PoolCaches>(h.pool_caches.load());
    const u32 generation = h.era_generation.load();
    become();
    pool_.reclaim_as(PoolNodeWord::reclaimer(h.era_node, generation));
    return membership_->continue_as(generation);
}

void PoolMember::leave() {
    if (membership_ != nullptr && !is_fenced()) membership_->leave();
}

u64 PoolMember::period_ms() const {
    constexpr u64 OTHERWISE_MS = 1000;
    constexpr u64 SIGNS_A_LEASE = 6;
    if (membership_ == nullptr) return OTHERWISE_MS;
    return std::clamp<u64>(membership_->lease_ms() / SIGNS_A_LEASE, 1, OTHERWISE_MS);
}

}  // namespace aep
