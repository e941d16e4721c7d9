// Purpose: the host's part in what several nodes share: becomes one of them, looks after the others
//          and after chunks of dead ones, leaves.
// Who calls it: host.cpp, recover.cpp (sweep).
// Crash rule: see membership.hpp. A chunk that was kept is announced in the context before it is
//             ours in the pool, like one on its way back.
#include <errno.h>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "node/crash_points.hpp"
#include "node/host.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "shim/backing/living_chunks.hpp"

namespace aep {

/// Becomes the node that is asked for; the context is new and says which one it is to be. Others
/// know nothing of it but its beat until it is introduced.
void NodeHost::enter_nodes() {
    ContextHeader& h = context();
    if (h.era_node == era::NO_NODE) return;
    if (const u32 most = pool_->file.superblock.era.clients; most != 0 && h.max_clients >= most) {
        throw NodeError(EINVAL, "context " + options_.paths.name + ": a node has at most " +
                                    std::to_string(most - 1) + " clients: lower --max-clients");
    }
    membership_ = std::make_unique<Membership>(*pool_, pool_fd_.get(), options_.nodes,
                                               options_.paths.name, log_);
    h.pool_caches.store(static_cast<u32>(options_.nodes.caches));
    h.era_generation.store(membership_->join());
    pool_->reclaimer = NodeWord::reclaimer(membership_->node(), membership_->generation());
}

/// Goes on as the node that the context is. False: others have declared it dead, or, while nobody
/// lives in it, it is to be another one.
bool NodeHost::go_on_as_node(bool lives) {
    const ContextHeader& h = context();
    const u32 wanted = options_.nodes.node;
    if (wanted != era::NO_NODE && wanted != h.era_node) {
        if (!lives) return false;
        throw NodeError(
            EINVAL, "context " + options_.paths.name + ": is " +
                        (h.era_node == era::NO_NODE ? std::string("no node")
                                                    : "node " + std::to_string(h.era_node + 1)) +
                        ", and its clients live: take it down first");
    }
    if (h.era_node == era::NO_NODE) return true;
    options_.nodes.node = h.era_node;
    options_.nodes.caches = static_cast<era::PoolCaches>(h.pool_caches.load());
    membership_ = std::make_unique<Membership>(*pool_, pool_fd_.get(), options_.nodes,
                                               options_.paths.name, log_);
    pool_->reclaimer = NodeWord::reclaimer(h.era_node, h.era_generation.load());
    return membership_->continue_as(h.era_generation.load());
}

bool NodeHost::fenced() const {
    return context().state.load(std::memory_order_acquire) ==
           static_cast<u32>(ContextState::fenced);
}

u64 NodeHost::period_ms() const {
    constexpr u64 OTHERWISE_MS = 1000;
    constexpr u64 SIGNS_A_LEASE = 6;
    if (membership_ == nullptr) return OTHERWISE_MS;
    const u64 ms = options_.nodes.lease_ms / SIGNS_A_LEASE;
    return ms == 0 ? 1 : ms < OTHERWISE_MS ? ms : OTHERWISE_MS;
}

void NodeHost::leave_nodes() {
    if (membership_ != nullptr && !fenced()) membership_->leave();
}

void NodeHost::look_after_nodes(u64 now_ms, Sweep& done) {
    if (membership_ == nullptr) return;
    if (!membership_->stands()) {
        if (fence_context()) {
            say(LogLevel::error,
                "other nodes have declared this one dead: its clients can share nothing any more "
                "and take no more memory from the pool; end them and take the context down");
        }
        return;
    }
    done.nodes_recovered = membership_->beat_and_recover(now_ms);
    // What lingers is settled a few at a time, as long as some goes. Not done: a former operation
    // is under way, or the context is poisoned; the next sweep asks again.
    const u64 end = monotonic_ns() + LONGEST_SHARE_OF_SWEEP_NS;
    Reply reply{};
    ShareOp op = ShareOp::tidy;
    Performed performed;
    do {
        performed = perform_for(0, static_cast<u32>(op), {}, reply);
        op = ShareOp::settle;
    } while (performed == Performed::done && reply.value != 0 && monotonic_ns() < end);
    done.busy = done.busy || performed == Performed::pending ||
                (performed == Performed::done && reply.status == Status::ok);
    done.chunks_returned += free_kept_chunks();
}

/// Frees chunks of dead nodes whose last object has gone.
u32 NodeHost::free_kept_chunks() {
    const PoolTables& tables = pool_->tables;
    u32 kept = 0;
    while (kept < tables.chunk_count && tables.chunk(kept).bits != KEPT_CHUNK.bits) ++kept;
    if (kept == tables.chunk_count) return 0;
    const LivingChunks living(pool_->file, pool_fd_.get());
    if (living.unknown()) return 0;
    u32 freed = 0;
    for (u32 c = kept; c < tables.chunk_count; ++c) {
        if (tables.chunk(c).bits != KEPT_CHUNK.bits || living.contain(c)) continue;
        std::atomic<u32>& owner = chunk_owner(c);
        u32 nobody = OWNER_NOBODY;
        if (!owner.compare_exchange_strong(nobody, OWNER_RETURNING, std::memory_order_acq_rel)) {
            continue;
        }
        if (claim_kept_chunk(tables, pool_->owner, c)) {
            freed += return_chunk(c);
        } else {
            owner.store(OWNER_NOBODY, std::memory_order_release);
        }
    }
    return freed;
}

}  // namespace aep
