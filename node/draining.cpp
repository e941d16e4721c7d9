// Purpose: see draining.hpp.
// Who calls it: see draining.hpp.
// Crash rule: see draining.hpp.
#include "node/draining.hpp"

namespace aep {
namespace {

constexpr u64 NOT_SAID = ~u64{0};
constexpr u64 WISHED = u64{1} << 32, WAITS = u64{1} << 33;  // above the generation that is meant

u64 generation_of(const era::Tables& t, u32 node) {
    return era::NodeWord{t.node(node).load()}.generation();
}

}  // namespace

Draining draining_of(const era::Tables& t, u32 node) {
    const era::NodeEntry& entry = t.entry(node);
    const u64 word = entry.leaving.load();
    const bool wished = (word & WISHED) != 0 && static_cast<u32>(word) == generation_of(t, node);
    if (!wished) return {};
    const u64 clients = entry.clients_left.load();
    return {.wished = true,
            .waits = (word & WAITS) != 0,
            .said = clients != NOT_SAID,
            .clients = clients,
            .objects = entry.objects_left.load()};
}

void wish_to_drain(const era::Tables& t, u32 node, bool waits) {
    if (!draining_of(t, node).wished) t.entry(node).clients_left.store(NOT_SAID);
    t.entry(node).leaving.store(generation_of(t, node) | WISHED | (waits ? WAITS : 0));
}

void wish_to_stay(const era::Tables& t, u32 node) { t.entry(node).leaving.store(0); }

bool tell_draining(const era::Tables& t, u32 node, u64 clients, u64 objects) {
    const Draining now = draining_of(t, node);
    if (!now.wished) return false;
    t.entry(node).objects_left.store(objects);
    t.entry(node).clients_left.store(clients);
    return clients == 0 && (objects == 0 || !now.waits);
}

}  // namespace aep
