// Purpose: see believed.hpp.
// Who calls it: see believed.hpp.
// Crash rule: see believed.hpp.
#include "node/believed.hpp"

#include "dsm-core/base/copied.hpp"

namespace aep {

std::string printable(const char* text, usize room) {
    std::string own;
    for (usize i = 0; i < room; ++i) {
        const char c = copied(text[i]);
        if (c == '\0') break;
        own += c >= ' ' && c <= '~' ? c : '?';
    }
    return own;
}

SlotOwner owner_of(const Slot& slot) {
    const SlotOwner owner{slot.owner.load(std::memory_order_acquire)};
    const bool sound = owner.state() == SlotState::used && owner.client() <= context().max_clients;
    return sound ? owner : SlotOwner{0};
}

ClientFacts facts_of(u32 client) {
    if (client > context().max_clients) {
        ClientFacts none;
        none.damaged = true;
        return none;
    }
    const ClientEntry& e = client_at(client);
    const u32 state = e.state.load(std::memory_order_acquire);
    constexpr std::memory_order RELAXED = std::memory_order_relaxed;  // words for people
    return {.state = static_cast<ClientState>(state),
            .damaged = state > static_cast<u32>(ClientState::recovering),
            .private_heap = e.private_heap.load(RELAXED) != 0,
            .generation = e.generation.load(RELAXED),
            .pid = copied(e.pid),
            .slots = e.slots.load(RELAXED),
            .chunks = e.chunks.load(RELAXED),
            .peak = e.peak.load(RELAXED),
            .limit = e.limit.load(RELAXED),
            .attached_ns = copied(e.attached_ns),
            .name = printable(e.name, sizeof e.name)};
}

}  // namespace aep
