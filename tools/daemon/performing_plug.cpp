// Purpose: see performing_plug.hpp.
// Who calls it: see performing_plug.hpp.
// Crash rule: see performing_plug.hpp.
#include "tools/daemon/performing_plug.hpp"

#include <fmt/format.h>

namespace aep {

/// Asked when there is something to perform: who is misled when there is not harms nobody.
bool PerformingPlug::given_up_for_good() {
    if (!performer_.hopeless()) return false;
    performer_.end();
    if (!std::exchange(said_, true)) {
        log_(LogLevel::error,
             "the host's operations are given up: who performs them is ended again and again by "
             "what clients have written into the context or its pool (see above)");
    }
    return true;
}

SlotOutcome PerformingPlug::complete(u32 index) {
    if (index != host_slot()) return complete_clients(index);
    // A former performer may still be in it until ours has come to work.
    if (!given_up_for_good() &&
        (!performer_.want() || !performer_.works() || performer_.asked(index)))
        return SlotOutcome::pending;
    return is_open(slot_at(index)) ? SlotOutcome::no_capture : SlotOutcome::completed;
}

SlotOutcome PerformingPlug::begin_operation(u32 slot) {
    if (given_up_for_good()) return SlotOutcome::no_capture;
    performer_.ask(slot);
    return SlotOutcome::pending;
}

/// Its performer is dead, and with it whoever was in the slot; complete() sees whether it is open.
void PerformingPlug::given_up(u32 slot, const std::string& why) {
    log_(LogLevel::error,
         fmt::format("an operation of the host's, in slot {}, is broken off: {}", slot, why));
}

}  // namespace aep
