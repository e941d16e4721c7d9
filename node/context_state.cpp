// Purpose: see context_state.hpp.
// Who calls it: see context_state.hpp.
// Crash rule: see context_state.hpp.
#include "node/context_state.hpp"

#include <fmt/format.h>

#include "dsm-core/sharing/records.hpp"
#include "dsm-core/sharing/topics.hpp"
#include "dsm-core/sharing/turn.hpp"
#include "node/believed.hpp"
#include "node/crash_points.hpp"

namespace aep {
namespace {

bool is_in(ContextState state) {
    return context().state.load(std::memory_order_acquire) == static_cast<u32>(state);
}

void say_poisoned(u32 index, const Log& log) {
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
    log(LogLevel::error, fmt::format("the context is poisoned: {}", poison_text()));
}

/// Who sleeps for messages, for room or for peers looks again, and is told; behind a descriptor it becomes readable.
void wake_all_who_sleep() {
    for (u32 i = 1; i < first_topic() + MOST_TOPICS; ++i) {
        if ((!is_inbox(i) && !is_topic(i)) || inbox_at(i).open.load() == 0) continue;
        wake(words_of(i, Sleep::arrivals));
        wake(words_of(i, Sleep::departures));
    }
    std::atomic<u32>& peers = sharing().peers_changed;
    peers.fetch_add(1, std::memory_order_seq_cst);
    detail::futex(&peers, detail::FUTEX_WAKE, ~0u >> 1);
}

}  // namespace

bool is_poisoned() { return is_in(ContextState::poisoned); }

bool is_fenced() { return is_in(ContextState::fenced); }

std::string poison_text() {
    if (!is_poisoned()) return "";
    const ContextHeader& h = context();
    const char* const operation = name_of(h.poison_op);
    const u32 slot = h.poison_slot, pid = h.poison_pid;  // each read once
    const std::string client =
        fmt::format("{} (pid {})", printable(h.poison_client, sizeof h.poison_client), pid);
    if (slot == host_slot()) {
        return fmt::format(
            "operation {} of the daemon's own{}, cannot be performed: its log says why", operation,
            pid != 0 ? ", for " + client : "");
    }
    return fmt::format("operation {} of {} was left open in slot {} and cannot be completed",
                       operation, client, slot);
}

void poison(u32 slot, const Log& log) {
    if (!is_poisoned()) say_poisoned(slot, log);
    // Whoever waits for what the dead thread holds finds it poisoned (SlotLock's longest sleep).
    wake_all_who_sleep();
}

}  // namespace aep
