// Purpose: see transit.hpp.
// Who calls it: see transit.hpp.
// Crash rule: see transit.hpp.
#include "dsm-core/sharing/transit.hpp"

#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/disposal.hpp"

namespace aep {

void pin(u32 slot, u32 index) {
    ++export_at(index).pins;
    pin_of(slot) = index;
}

void unpin(u32 slot, u32 index) {
    Export& e = export_at(index);
    pin_of(slot) = NO_RECORD;
    --e.pins;
    if (e.references == 0 && !e.listed) dispose(index);
}

bool learn(const era::Tables& t, u32 index) {
    const era::ObjectEntry& entry = t.object(export_at(index).object - 1);
    const u64 address = entry.address.load();
    const u64 bytes = entry.bytes.load();
    const u64 window = u64{context().chunk_count} * CHUNK_SIZE;
    // What another machine says is believed within the pool's bounds.
    if (address - HEAP_BASE >= window || bytes == 0 || bytes > window - (address - HEAP_BASE) ||
        find_export(address) != NO_RECORD)
        return false;
    name_export(index, address, bytes);
    AEP_AWAY_CRASH_POINT("away: foreign export made");
    const u64 head = entry.head.load();
    if (head == 0) return true;
    begin_group(index);
    const bool free = in_heap_window(head) && find_export(head) == NO_RECORD;
    if (free && records_left(1, false)) add_root(index, head, entry.head_bytes.load());
    return true;
}

}  // namespace aep
