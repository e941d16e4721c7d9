// Purpose: see client_recovery.hpp.
// Who calls it: see client_recovery.hpp.
// Crash rule: see client_recovery.hpp.
#include "node/client_recovery.hpp"

#include <errno.h>
#include <fmt/format.h>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "node/believed.hpp"
#include "node/context_state.hpp"
#include "node/crash_points.hpp"
#include "node/metadata.hpp"
#include "node/node_error.hpp"
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

/// Completes or undoes every open operation. False: at least one is under way, or its completer
/// still on the slot's stack, which nobody else may have before that.
bool ClientRecovery::finish_slots(u32 client) {
    bool finished = true;
    for_each_slot(client, [&](const Slot& slot, u32 index) {
        const bool hosts = index == host_slot();
        if (!hosts && is_at_rest(slot)) return;
        switch (hosts ? host_slot_.settle() : operations_.complete_or_undo(index)) {
            case SlotOutcome::completed:
                break;
            case SlotOutcome::pending:
                finished = false;
                break;
            case SlotOutcome::no_capture:
                poison(index, log_);
                break;
        }
    });
    return finished;
}

/// Its references go, a part at a time, in operations. False: under way. What a poisoned context
/// says of sharing is believed in nothing.
bool ClientRecovery::leave_sharing(u32 client) {
    const ShareClient& c = share_client(client);
    // A name that it died in the claim of is others' again when it has left.
    const auto takes_part = [&] {
        return c.takes_part() || c.sends_as.load() != 0 || is_claiming(client);
    };
    // A client that lives could write into the reply for ever.
    const u64 end = monotonic_ns() + LONGEST_LEAVE_NS;
    op::Leave::Reply reply;
    while (reply.status == Status::ok && (takes_part() || has_shares(c))) {
        switch (host_slot_.perform_for(client, op::Leave{}, reply)) {
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

void ClientRecovery::free_slots(u32 client) {
    for_each_slot(client, [&](Slot& slot, u32 index) {
        // Still open: what it did is lost, the next thread finds nothing open.
        if (is_open(slot)) slot.sequence.fetch_add(1, std::memory_order_relaxed);
        slot.tid.store(0, std::memory_order_relaxed);
        if (index != host_slot()) punch_stack(served_.fd(), index);
        slot.owner.store(0, std::memory_order_release);  // release: who takes it finds it even
        AEP_NODE_CRASH_POINT("recover: one slot freed");
    });
    client_at(client).slots.store(0, std::memory_order_relaxed);
}

/// Its descendants still use its heap, which goes with the last of them.
void ClientRecovery::freeze(u32 client) {
    if (client_at(client).state.load(std::memory_order_acquire) ==
        static_cast<u32>(ClientState::frozen))
        return;
    set_state(client, ClientState::frozen);
    log_(LogLevel::info,
         fmt::format("client {} is gone, its descendants still use its heap", client));
}

u32 ClientRecovery::take_chunks_back(u32 client) {
    // What an operation left that cannot be completed is believed in nothing.
    const bool wipe = is_poisoned();
    const int fd = served_.fd();
    // A next client that uses little of a huge page would have all of it: such memory does not wait in the cache.
    const bool cleans = !wipe && !is_fenced();
    const u64 end = monotonic_ns() + LONGEST_SHARE_OF_SWEEP_NS;
    u32 chunks = 0;
    for (u32 c = 0; c < context().chunk_count; ++c) {
        const u32 owner = chunk_owner(c).load(std::memory_order_acquire);
        if (owner != client && owner != (client | OWNER_CLAIMING)) continue;
        bool coarse = false;
        if (wipe)
            punch_chunk_metadata(fd, c);
        else
            coarse = clear_chunk_metadata(fd, client, c);
        AEP_NODE_CRASH_POINT("recover: metadata cleared");
        // Exports in it: the chunk stays until the last of them goes, which may be just now.
        if (!exports_gone(c) && keep_chunk(client, c)) {
            if (exports_gone(c)) give_kept_chunk(c);
            continue;
        }
        if (reclaim_chunk(client, c)) {
            ++chunks;
            if (coarse && cleans && monotonic_ns() < end) cache_.give_back(c);
        }
        AEP_NODE_CRASH_POINT("recover: one chunk");
    }
    return chunks;
}

bool ClientRecovery::empty_domain(u32 client) {
    const u64 at = context_offset_of_meta(reinterpret_cast<uptr>(&domain_at(client)));
    if (punch_range(served_.fd(), at, DOMAIN_STRIDE)) return true;
    log_(LogLevel::error,
         fmt::format("client {}: its domain cannot be emptied: {}", client, errno_text(errno)));
    return false;
}

void ClientRecovery::say_gone(u32 client, const Recovery& done) const {
    const ClientFacts facts = facts_of(client);
    log_(LogLevel::info,
         fmt::format("client {} ({}, pid {}) is gone: {} chunks, {} MiB back in {} us", client,
                     facts.name, facts.pid, done.chunks, done.chunks * (CHUNK_SIZE / MiB),
                     done.ns / 1000));
}

Recovery ClientRecovery::recover(u32 client) {
    ClientEntry& entry = client_at(client);
    const auto state = static_cast<ClientState>(entry.state.load(std::memory_order_acquire));
    if (state == ClientState::free) return {};
    if (served_.lives(client)) return {.state = RecoveryState::alive};
    AEP_NODE_CRASH_POINT("recover: dead");
    const u64 begin = monotonic_ns();
    if (!finish_slots(client)) return {.state = RecoveryState::waiting};
    if (!leave_sharing(client)) return {.state = RecoveryState::waiting};
    free_slots(client);
    if (served_.has_descendants(client)) {
        freeze(client);
        return {.state = RecoveryState::frozen};
    }
    set_state(client, ClientState::recovering);
    AEP_NODE_CRASH_POINT("recover: announced");
    const bool begun_before = state == ClientState::recovering;
    if (verifier_ != nullptr && !begun_before && !is_poisoned()) verifier_->verify(client);
    const u32 chunks = take_chunks_back(client);
    AEP_NODE_CRASH_POINT("recover: all chunks");
    if (!empty_domain(client)) return {.state = RecoveryState::waiting, .chunks = chunks};
    AEP_NODE_CRASH_POINT("recover: domain emptied");
    entry.chunks.store(0, std::memory_order_relaxed);
    const Recovery done{RecoveryState::recovered, chunks, monotonic_ns() - begin};
    ContextHeader& h = context();
    h.recovered.fetch_add(1, std::memory_order_relaxed);
    h.recovered_chunks.fetch_add(chunks, std::memory_order_relaxed);
    h.recovered_ns.fetch_add(done.ns, std::memory_order_relaxed);
    say_gone(client, done);
    set_state(client, ClientState::free);
    return done;
}

void ClientRecovery::recover_all(Sweep& done) {
    for (u32 i = 1; i <= context().max_clients; ++i) {
        const Recovery one = recover(i);
        done.recovered += one.state == RecoveryState::recovered;
        done.chunks_recovered += one.chunks;
        done.busy =
            done.busy || one.state == RecoveryState::waiting || one.state == RecoveryState::frozen;
    }
}

}  // namespace aep
