// Purpose: see rollback_plug.hpp.
// Who calls it: see rollback_plug.hpp.
// Crash rule: see rollback_plug.hpp.
#include "tools/daemon/rollback_plug.hpp"

#include "tools/node/process_facts.hpp"

namespace aep {
namespace {

/// No operation takes so long, unless somebody has made a circle of a list.
constexpr u64 LONGEST_OPERATION_NS = 10'000'000'000;

}  // namespace

std::string RollbackPlug::start(const WatchedContext& watched) {
    return performer_.prepare(watched);
}

void RollbackPlug::begin() {
    have_performer();  // before it is needed: whoever waits for it waits less
}

/// Starts one if there is none.
bool RollbackPlug::have_performer() {
    if (performer_.runs()) return true;
    ready_ = asked_ = false;
    const std::string why = performer_.start(-1);
    if (!why.empty()) log_(LogLevel::error, "nobody performs the host's operations: " + why);
    return why.empty();
}

/// One that never came to work is started again by the next sweep only.
void RollbackPlug::performer_died() {
    log_(LogLevel::warning, "the performer (pid " + std::to_string(performer_.pid()) + ") is dead");
    const bool worked = ready_;
    performer_.end();
    ready_ = asked_ = false;
    if (worked) have_performer();
}

SlotOutcome RollbackPlug::complete(u32 index) {
    const Slot& slot = slot_at(index);
    if (index != host_slot()) {
        return is_open(slot) ? SlotOutcome::no_capture : SlotOutcome::completed;
    }
    if (asked_ && monotonic_ns() - asked_ns_ > LONGEST_OPERATION_NS) {
        log_(LogLevel::error, "an operation of the host's does not end: its performer is killed");
        performer_died();
    }
    // A former performer may still be in it until ours has come to work.
    if (!have_performer() || !ready_ || asked_) return SlotOutcome::pending;
    return is_open(slot) ? SlotOutcome::no_capture : SlotOutcome::completed;
}

SlotOutcome RollbackPlug::begin_operation(u32 slot) {
    asked_ = performer_.send_job(slot);
    asked_ns_ = monotonic_ns();
    return SlotOutcome::pending;
}

void RollbackPlug::on_event() {
    const auto take_it = [this](const CompleterReport& report) { take(report); };
    if (!performer_.receive(take_it)) performer_died();
}

void RollbackPlug::take(const CompleterReport& report) {
    switch (report.outcome) {
        case CompleterOutcome::started:
            performer_.send_job(BEGIN_JOB);  // it is a member of nothing
            break;
        case CompleterOutcome::ready:
            ready_ = true;
            break;
        default:
            asked_ = false;
    }
}

}  // namespace aep
