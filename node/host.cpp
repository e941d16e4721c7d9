// Purpose: see host.hpp.
// Who calls it: see host.hpp.
// Crash rule: see host.hpp.
#include "node/host.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "dsm-core/base/every_thread.hpp"
#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "node/image_copy.hpp"
#include "node/open_context.hpp"
#include "node/serving_lock.hpp"
#include "node/stray_lock.hpp"

namespace aep {

NodeHost::NodeHost(NodeOptions options, Completion& completion, Log log)
    : options_(std::move(options)),
      log_(std::move(log)),
      serving_lock_(take_serving_lock(options_.paths)),
      image_(copy_image(options_.image)),
      member_(options_, pool_, log_),
      reopened_(open_context(options_, pool_, member_, served_)),
      protection_(completion),
      undo_(served_, log_),
      host_slot_(served_, protection_, undo_, log_),
      operations_(protection_, undo_, host_slot_, log_),
      verifier_(served_, log_),
      cache_(served_, pool_, options_.decay_ms),
      recovery_(served_, operations_, host_slot_, cache_, options_.verify ? &verifier_ : nullptr,
                log_),
      admission_(served_, pool_, image_.get(), recovery_, log_),
      lone_deaths_(served_, protection_, operations_, log_),
      upkeep_(member_, host_slot_, pool_, cache_, log_),
      failed_memory_(pool_, cache_, log_),
      events_(log_, failed_memory_),
      checker_(served_, pool_, member_, verifier_) {
    adopt_state();
}

/// What was left over by an earlier daemon, and what this one wants different. Not all of a sweep:
/// the provider is started first.
void NodeHost::adopt_state() {
    ContextHeader& h = context();
    if (options_.context_limit) h.context_limit.store(*options_.context_limit);
    if (options_.client_limit) h.client_limit.store(*options_.client_limit);
    const bool barriers = take_part_in_barriers();  // so do completers, under the same limits
    if (!barriers)
        log_(LogLevel::info,
             "the system permits no membarrier: locks of clients are not biased, and cost more");
    h.barriers.store(barriers ? 1 : 0);
    cache_.finish_returns();
    cache_.recount();
    if (is_poisoned())
        log_(LogLevel::error, fmt::format("the context is poisoned: {}", aep::poison_text()));
}

bool NodeHost::somebody_is_left() const {
    for (u32 i = 1; i <= context().max_clients; ++i) {
        const u32 state = client_at(i).state.load(std::memory_order_acquire);
        if (state != static_cast<u32>(ClientState::free)) return true;
    }
    return false;
}

WatchedContext NodeHost::watched() const {
    return {served_.fd(), image_.get(), pool_.fd(), served_.constants_fd(),
            options_.paths.directory};
}

Sweep NodeHost::sweep(u64 now_ms) {
    Sweep done;
    events_.say_new();  // before entries of dead clients are given to others
    recovery_.recover_all(done);
    if (!is_fenced()) done.chunks_returned += failed_memory_.look_after();
    lone_deaths_.finish(now_ms);
    free_stray_locks(log_);
    give_forgotten_chunks();
    cache_.recount();
    upkeep_.look_after(now_ms, done);
    if (is_fenced()) return done;
    done.chunks_returned += cache_.give_back_unused(now_ms, false);
    done.busy = done.busy || chunks_in_cache() != 0;
    if (const u32 more = pool_.new_chunks(); more != 0) {
        log_(LogLevel::info, fmt::format("pool {}: has grown by {} MiB", pool_.file().path,
                                         u64{more} * CHUNK_SIZE / MiB));
    }
    // Clients cannot do it: their operations make no system calls.
    done.nodes_reclaimed_chunks = pool_.reclaim_dead();
    return done;
}

void NodeHost::remove() {
    // While nobody lives all is in the cache, and the entry is given back clean.
    if (!somebody_lives()) {
        Sweep last;
        recovery_.recover_all(last);
        cache_.give_back_unused(0, true);
        member_.leave();
        // What is left has objects in it that other nodes hold. Other machines do not see that we
        // are at it, now that we are no node any more: on a device the next of them does it.
        if (!is_fenced() && pool_.file().memory != PoolMemory::device)
            reclaim_node(pool_.file(), pool_.tables(), pool_.fd(), pool_.owner().node, 0);
    }
    const ContextPaths& paths = options_.paths;
    unlink(paths.context().c_str());
    unlink(paths.pool().c_str());  // its own pool, or the link to another
    unlink(paths.lock().c_str());
    rmdir(paths.directory.c_str());
    log_(LogLevel::info, fmt::format("context {} is removed", paths.name));
}

}  // namespace aep
