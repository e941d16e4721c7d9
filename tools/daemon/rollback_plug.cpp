// Purpose: see rollback_plug.hpp.
// Who calls it: see rollback_plug.hpp.
// Crash rule: see rollback_plug.hpp.
#include "tools/daemon/rollback_plug.hpp"

#include "dsm-core/sharing/logged.hpp"
#include "node/file_lock.hpp"

namespace aep {

std::string RollbackPlug::start(const WatchedContext& watched) {
    if (!undo_log_works) return "this build has no undo log (AEP_UNDO_LOG=OFF): it cannot undo";
    return performer_.prepare(watched, -1);
}

SlotOutcome RollbackPlug::complete_clients(u32 index) {
    if (!is_open(slot_at(index))) return SlotOutcome::completed;
    return former_is_gone() ? SlotOutcome::no_capture : SlotOutcome::pending;
}

/// Whether no completer of a former daemon, with another provider, can be in a client's operation.
bool RollbackPlug::former_is_gone() {
    former_gone_ = former_gone_ || performer_.works() ||
                   !somebody_locks(performer_.context_fd(), COMPLETER_LOCK_OFFSET);
    if (!former_gone_) performer_.want();  // it comes to work when the other one is gone
    return former_gone_;
}

}  // namespace aep
