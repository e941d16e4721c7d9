// Purpose: see transit.hpp.
// Who calls it: see transit.hpp.
// Crash rule: see transit.hpp.
#include "dsm-core/sharing/transit.hpp"

#include "dsm-core/sharing/crash_points.hpp"

namespace aep {

Pin::Pin(Caller caller, u32 index) : Pin(caller, caller.slot, index) {
    ++export_at(index).pins;
    pin_of(slot_) = index;
}

Pin& Pin::operator=(Pin&& other) noexcept {
    Pin former(static_cast<Pin&&>(*this));
    caller_ = other.caller_;
    slot_ = other.slot_;
    index_ = other.index_;
    other.index_ = NO_RECORD;
    return *this;
}

Pin::~Pin() {
    if (index_ == NO_RECORD) return;
    Turn turn(caller_);
    LockList locks;
    if (lock(turn, locks)) static_cast<void>(release(turn));
}

bool Pin::lock(Turn& turn, LockList& locks) const {
    return lock(
        turn, locks, [] { return true; });
}

bool Pin::release(Turn& turn) {
    const u32 index = index_;
    index_ = NO_RECORD;
    pin_of(slot_) = NO_RECORD;
    Export& e = export_at(index);
    --e.pins;
    return e.references != 0 || e.listed || dispose(turn, caller_.client, index);
}

ObjectFacts facts_of(const era::Tables& t, u32 object) {
    const era::ObjectEntry& entry = t.object(object);
    return {entry.address.load(), entry.bytes.load(), entry.head.load(), entry.head_bytes.load()};
}

void add_locks_to_learn(const ObjectFacts& facts, LockList& locks) {
    locks.add_stripe(facts.address);
    if (facts.head != 0) locks.add_stripe(facts.head);
}

bool is_being_given_up(const ObjectFacts& facts) {
    for (const u64 address : {facts.address, facts.head}) {
        const u32 index = address == 0 ? NO_RECORD : find_export(address);
        if (index == NO_RECORD) continue;
        const u32 group = export_at(index).group.load();
        if (export_at(is_record(group) ? group : index).node_ref == NodeRef::dropping) return true;
    }
    return false;
}

bool learn(u32 client, const ObjectFacts& facts, u32 index) {
    const u64 address = facts.address, bytes = facts.bytes;
    const u64 window = u64{context().chunk_count} * CHUNK_SIZE;
    // What another machine says is believed within the pool's bounds.
    if (address - HEAP_BASE >= window || bytes == 0 || bytes > window - (address - HEAP_BASE) ||
        find_export(address) != NO_RECORD)
        return false;
    name_export(index, address, bytes);
    AEP_AWAY_CRASH_POINT("away: foreign export made");
    if (facts.head == 0) return true;
    begin_group(client, index);
    if (in_heap_window(facts.head) && find_export(facts.head) == NO_RECORD)
        add_root(client, index, facts.head, facts.head_bytes);
    return true;
}

}  // namespace aep
