// Purpose: see rollback_plug.hpp.
// Who calls it: see rollback_plug.hpp.
// Crash rule: see rollback_plug.hpp.
#include "tools/daemon/rollback_plug.hpp"

#include "dsm-core/sharing/logged.hpp"
#include "tools/node/file_lock.hpp"

namespace aep {

std::string RollbackPlug::start(const WatchedContext& watched) {
    if (!undo_log_works) return "this build has no undo log (AEP_UNDO_LOG=OFF): it cannot undo";
    return performer_.prepare(watched, -1);
}

SlotOutcome RollbackPlug::complete(u32 index) {
    const Slot& slot = slot_at(index);
    if (index != host_slot()) {
        if (!is_open(slot)) return SlotOutcome::completed;
        return former_is_gone() ? SlotOutcome::no_capture : SlotOutcome::pending;
    }
    // A former performer may still be in it until ours has come to work.
    if (!performer_.want() || !performer_.works() || performer_.asked(index)) {
        return SlotOutcome::pending;
    }
    return is_open(slot) ? SlotOutcome::no_capture : SlotOutcome::completed;
}

/// Whether no completer of a former daemon, with another provider, can be in a client's operation.
bool RollbackPlug::former_is_gone() {
    former_gone_ = former_gone_ || performer_.works() ||
                   !somebody_locks(performer_.context_fd(), COMPLETER_LOCK_OFFSET);
    if (!former_gone_) performer_.want();  // it comes to work when the other one is gone
    return former_gone_;
}

SlotOutcome RollbackPlug::begin_operation(u32 slot) {
    performer_.ask(slot);
    return SlotOutcome::pending;
}

/// Its performer is dead, and with it whoever was in the slot: complete() says that it is open.
void RollbackPlug::given_up(u32 slot, const std::string& why) {
    log_(LogLevel::error,
         "an operation of the host's, in slot " + std::to_string(slot) + ", is broken off: " + why);
}

}  // namespace aep
