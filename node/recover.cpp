// Purpose: takes back what a dead client held: completes its open operations or says that it
// cannot,
//          frees its slots, clears its chunks' metadata and gives the chunks to the cache, empties
//          its domain.
// Who calls it: the daemon when a connection ends, a process ends, or a sweep is due.
// Crash rule: each step leaves a state from which all of it can be done again; the entry is free
//             last. A client is believed dead when its lock can be had, by nothing else.
#include <fcntl.h>
#include <linux/falloc.h>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "node/believed.hpp"
#include "node/crash_points.hpp"
#include "node/file_lock.hpp"
#include "node/host.hpp"
#include "node/metadata.hpp"
#include "node/process_facts.hpp"

namespace aep {
namespace {

/// How long the references of one dead client are given up in one go.
constexpr u64 LONGEST_LEAVE_NS = 200'000'000;

void set_state(u32 client, ClientState state) {
    // release: who sees the entry free sees its domain empty.
    client_at(client).state.store(static_cast<u32>(state), std::memory_order_release);
}

/// Calls f(slot, index) for each slot of the client.
template <class F>
void for_each_slot(u32 client, F&& f) {
    for (u32 i = 0; i < context().max_slots; ++i) {
        Slot& slot = slot_at(i);
        const SlotOwner owner = owner_of(slot);
        if (owner.state() == SlotState::used && owner.client() == client) f(slot, i);
    }
}

}  // namespace

bool NodeHost::poisoned() const {
    return context().state.load(std::memory_order_acquire) ==
           static_cast<u32>(ContextState::poisoned);
}

std::string NodeHost::poison_text() const {
    if (!poisoned()) return "";
    const ContextHeader& h = context();
    const std::string op = "operation " + std::to_string(h.poison_op);
    const std::string client = printable(h.poison_client, sizeof h.poison_client) + " (pid " +
                               std::to_string(h.poison_pid) + ")";
    const u32 slot = h.poison_slot;  // read once
    if (slot == host_slot()) {
        return op + " of the daemon's own" + (h.poison_pid != 0 ? ", for " + client : "") +
               ", cannot be performed: its log says why";
    }
    return op + " of " + client + " was left open in slot " + std::to_string(slot) +
           " and cannot be completed";
}

/// The first one is the one to tell of.
void NodeHost::poison(u32 index) {
    if (!poisoned()) say_poisoned(index);
    // Whoever waits for what the dead thread holds goes on, and finds it poisoned.
    sharing().lock.give_up();
}

void NodeHost::say_poisoned(u32 index) {
    ContextHeader& h = context();
    const Slot& slot = slot_at(index);
    const u32 client = owner_of(slot).client();
    const ClientFacts facts = client == 0 ? ClientFacts{} : facts_of(client);
    h.poison_op = slot.op;
    h.poison_slot = index;
    h.poison_pid = facts.pid;
    __builtin_memset(h.poison_client, 0, sizeof h.poison_client);
    facts.name.copy(h.poison_client, sizeof h.poison_client - 1);
    // release: who sees it poisoned sees why.
    h.state.store(static_cast<u32>(ContextState::poisoned), std::memory_order_release);
    AEP_NODE_CRASH_POINT("recover: poisoned");
    say(LogLevel::error, "the context is poisoned: " + poison_text());
}

bool NodeHost::life_held(u32 client) const {
    return somebody_locks(context_fd_.get(), CLIENT_LOCKS_OFFSET + client);
}

/// Completes or undoes every open operation. False: at least one is under way, or its completer
/// still on the slot's stack, which nobody else may have before that.
bool NodeHost::finish_slots(u32 client) {
    bool finished = true;
    for_each_slot(client, [&](const Slot& slot, u32 index) {
        const bool hosts = index == host_slot();
        if (!hosts && is_at_rest(slot)) return;
        switch (hosts ? settle_host_slot() : complete_or_undo(index)) {
            case SlotOutcome::completed:
                break;
            case SlotOutcome::pending:
                finished = false;
                break;
            case SlotOutcome::no_capture:
                poison(index);
                break;
        }
    });
    return finished;
}

/// Its references go, a part at a time, in operations. False: under way. What a poisoned context
/// says of sharing is believed in nothing.
bool NodeHost::leave_sharing(u32 client) {
    const ShareClient& c = share_client(client);
    // A name that it died in the claim of is others' again when it has left.
    const auto takes_part = [&] { return c.open.load() != 0 || is_claiming(client); };
    // A client that lives could write into the reply for ever.
    const u64 end = monotonic_ns() + LONGEST_LEAVE_NS;
    Reply reply{.status = Status::ok};
    while (reply.status == Status::ok && (takes_part() || has_shares(c))) {
        switch (perform_for(client, static_cast<u32>(ShareOp::leave), {}, reply)) {
            case Performed::done:
                if (monotonic_ns() > end) return false;
                break;
            case Performed::pending:
                return false;
            case Performed::failed:
                return true;
        }
    }
    return true;
}

void NodeHost::free_slots(u32 client) {
    for_each_slot(client, [&](Slot& slot, u32 index) {
        // Still open: what it did is lost, the next thread finds nothing open.
        if (is_open(slot)) slot.sequence.fetch_add(1, std::memory_order_relaxed);
        slot.tid.store(0, std::memory_order_relaxed);
        if (index != host_slot()) punch_stack(context_fd_.get(), index);
        slot.owner.store(0, std::memory_order_release);  // release: who takes it finds it even
        AEP_NODE_CRASH_POINT("recover: one slot freed");
    });
    client_at(client).slots.store(0, std::memory_order_relaxed);
}

Recovery NodeHost::recover(u32 client) {
    ClientEntry& entry = client_at(client);
    const auto state = static_cast<ClientState>(entry.state.load(std::memory_order_acquire));
    if (state == ClientState::free) return {};
    if (life_held(client)) return {.state = RecoveryState::alive};
    AEP_NODE_CRASH_POINT("recover: dead");
    const u64 begin = monotonic_ns();
    if (!finish_slots(client)) return {.state = RecoveryState::waiting};
    if (!leave_sharing(client)) return {.state = RecoveryState::waiting};
    free_slots(client);
    if (somebody_locks(context_fd_.get(), FROZEN_LOCKS_OFFSET + client)) {
        if (state != ClientState::frozen) {
            set_state(client, ClientState::frozen);
            say(LogLevel::info, "client " + std::to_string(client) +
                                    " is gone, its descendants still use its heap");
        }
        return {.state = RecoveryState::frozen};
    }
    set_state(client, ClientState::recovering);
    AEP_NODE_CRASH_POINT("recover: announced");
    if (options_.verify && state != ClientState::recovering && !poisoned()) verify_domain(client);
    const u32 chunks = take_chunks_back(client);
    AEP_NODE_CRASH_POINT("recover: all chunks");
    empty_domain(client);
    AEP_NODE_CRASH_POINT("recover: domain emptied");
    entry.chunks.store(0, std::memory_order_relaxed);
    const u64 ns = monotonic_ns() - begin;
    ContextHeader& h = context();
    h.recovered.fetch_add(1, std::memory_order_relaxed);
    h.recovered_chunks.fetch_add(chunks, std::memory_order_relaxed);
    h.recovered_ns.fetch_add(ns, std::memory_order_relaxed);
    const ClientFacts facts = facts_of(client);
    say(LogLevel::info, "client " + std::to_string(client) + " (" + facts.name + ", pid " +
                            std::to_string(facts.pid) + ") is gone: " + std::to_string(chunks) +
                            " chunks, " + std::to_string(chunks * (CHUNK_SIZE / MiB)) +
                            " MiB back in " + std::to_string(ns / 1000) + " us");
    set_state(client, ClientState::free);
    return {RecoveryState::recovered, chunks, ns};
}

u32 NodeHost::take_chunks_back(u32 client) {
    // What an operation left that cannot be completed is believed in nothing.
    const bool wipe = poisoned();
    const int fd = context_fd_.get();
    u32 chunks = 0;
    for (u32 c = 0; c < context().chunk_count; ++c) {
        const u32 owner = chunk_owner(c).load(std::memory_order_acquire);
        if (owner != client && owner != (client | OWNER_CLAIMING)) continue;
        if (wipe) {
            punch_chunk_metadata(fd, c);
        } else {
            clear_chunk_metadata(fd, client, c);
        }
        AEP_NODE_CRASH_POINT("recover: metadata cleared");
        // Exports in it: the chunk stays until the last of them goes, which may be just now.
        if (!exports_gone(c) && keep_chunk(client, c)) {
            if (exports_gone(c)) give_kept_chunk(c);
            continue;
        }
        chunks += reclaim_chunk(client, c);
        AEP_NODE_CRASH_POINT("recover: one chunk");
    }
    return chunks;
}

void NodeHost::empty_domain(u32 client) {
    const u64 at = context_offset_of_meta(reinterpret_cast<uptr>(&domain_at(client)));
    fallocate(context_fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at),
              static_cast<off_t>(DOMAIN_STRIDE));
}

bool NodeHost::somebody_is_left() const {
    for (u32 i = 1; i <= context().max_clients; ++i) {
        const u32 state = client_at(i).state.load(std::memory_order_acquire);
        if (state != static_cast<u32>(ClientState::free)) return true;
    }
    return false;
}

Sweep NodeHost::sweep(u64 now_ms) {
    Sweep done;
    log_events();  // before entries of dead clients are given to others
    for (u32 i = 1; i <= context().max_clients; ++i) {
        const Recovery recovery = recover(i);
        done.recovered += recovery.state == RecoveryState::recovered;
        done.chunks_recovered += recovery.chunks;
        done.busy = done.busy || recovery.state == RecoveryState::waiting ||
                    recovery.state == RecoveryState::frozen;
    }
    finish_left_behind(now_ms);
    free_stray_lock();
    give_forgotten_chunks();
    count_cached();
    look_after_nodes(now_ms, done);
    if (fenced()) return done;
    done.chunks_returned += return_cached(now_ms, false);
    done.busy = done.busy || context().chunks_cached.load(std::memory_order_relaxed) != 0;
    // Clients cannot do it: their operations make no system calls.
    const long freed = reclaim_dead_nodes(*pool_, next_dead_node_, 32);
    next_dead_node_ = (next_dead_node_ + 32) % pool_->tables.node_count;
    if (freed > 0) done.nodes_reclaimed_chunks = static_cast<u32>(freed);
    return done;
}

}  // namespace aep
