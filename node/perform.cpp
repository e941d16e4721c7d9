// Purpose: operations that the host performs for dead clients, in a slot of its own, one at a time.
// Who calls it: recovery, for what must not be left half done or locked.
// Crash rule: the slot has an owner before anything else of an operation is written, and none again
//             after its reply is read. A host that finds it even has nothing to finish: either
//             nothing had begun, or it has ended. A host that finds it odd completes it like any
//             other slot of that client.
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <tuple>

#include "dsm-core/sharing/share_ops.hpp"
#include "node/believed.hpp"
#include "node/crash_points.hpp"
#include "node/host.hpp"

namespace aep {
namespace {

bool same(const Request& a, const Request& b) {
    const auto key = [](const Request& r) {
        return std::tuple(r.op, r.heap, r.a, r.b, r.now, r.mask, raw(r.run.first), r.run.slices,
                          r.zero, r.committed, r.coarse, r.thorough);
    };
    return key(a) == key(b);
}

bool holds(const Slot& slot, u32 number, const Request& request) {
    return slot.op == number && same(slot.request, request);
}

/// Looks every 50 ms as long as it exists, in a thread of its own: its owner's may wait for ever.
class Lookout {
  public:
    template <class Look>
    explicit Lookout(Look look)
        : thread_([this, look](const std::stop_token& stop) {
              std::unique_lock lock(mutex_);
              const auto never = [] { return false; };
              for (;;) {
                  over_.wait_for(lock, stop, std::chrono::milliseconds(50), never);
                  if (stop.stop_requested()) return;
                  look();
              }
          }) {}

  private:
    std::mutex mutex_;
    std::condition_variable_any over_;
    std::jthread thread_;  // the last: it ends before what it uses
};

}  // namespace

/// Waits for whosever operation is in the host's slot. The first time that nothing is under way
/// there, the slot is taken back from a former host: not before, its completer may be at work.
SlotOutcome NodeHost::settle_host_slot() {
    const SlotOutcome outcome = complete_or_undo(host_slot());
    if (outcome != SlotOutcome::completed || std::exchange(host_slot_settled_, true))
        return outcome;
    Slot& slot = slot_at(host_slot());
    if (slot.owner.load(std::memory_order_relaxed) == 0) return outcome;
    // A capture may have been made for the sequence that was to come next, and nothing else of that
    // operation will: that sequence never comes.
    slot.sequence.fetch_add(2, std::memory_order_relaxed);
    slot.owner.store(0, std::memory_order_release);  // release: the sequence is the new one
    return outcome;
}

/// A client is dead, and nobody completes what it has left open: whoever waits for what it holds
/// goes on, for it is undone, or else the context is poisoned; again each time, for what is taken
/// in a poisoned context can be left held, too. In a thread beside the host's, which waits itself.
void NodeHost::free_what_the_dead_hold() {
    for (u32 i = 0; i < host_slot(); ++i) {
        const Slot& slot = slot_at(i);
        const SlotOwner owner = owner_of(slot);
        if (owner.state() != SlotState::used || !is_open(slot) || life_held(owner.client())) {
            continue;
        }
        // Asked once more: its client may have ended the operation before it died.
        if (completion_.complete(i) != SlotOutcome::no_capture) continue;
        if (!rolls_back_ || !undo_slot(i)) poison(i);
    }
}

/// Begins the operation that is written in the host's slot.
SlotOutcome NodeHost::begin(u32 slot) {
    std::optional<Lookout> lookout;
    if (completion_.performs_here()) {
        try {
            lookout.emplace([this] { free_what_the_dead_hold(); });
        } catch (const std::system_error& error) {
            std::string text =
                "an operation of the daemon's may wait for a dead client: no thread: ";
            say(LogLevel::warning, text += error.what());
        }
    }
    return completion_.begin_operation(slot);
}

/// An operation that is not completed: waits for it, or for nothing any more.
Performed NodeHost::unfinished(SlotOutcome outcome) {
    if (outcome == SlotOutcome::pending) return Performed::pending;
    poison(host_slot());
    return Performed::failed;
}

Performed NodeHost::perform_for(u32 client, u32 number, const Request& request, Reply& reply) {
    if (poisoned()) return Performed::failed;
    const bool finishes = number == static_cast<u32>(ShareOp::finish_away);
    const u32 index = host_slot();
    Slot& slot = slot_at(index);
    const u64 owner =
        SlotOwner::make(client, client_at(client).generation.load(std::memory_order_relaxed)).bits;
    // Whosever operation is there: this one, another client's, or a former host's.
    SlotOutcome outcome = settle_host_slot();
    if (outcome != SlotOutcome::completed) return unfinished(outcome);
    const u64 holder = slot.owner.load(std::memory_order_relaxed);
    // Begun by this host, and the reply not read. Recovery frees the slot with its client's others
    // if the client no longer asks.
    const bool awaited = holder != 0 && ends_with_ == slot.sequence.load(std::memory_order_relaxed);
    if (awaited && holder != owner) return Performed::pending;
    // What an operation of the host's left between nodes when it was undone comes first. One that
    // has ended left nothing, whatever is written there.
    if (const bool own = finishes && request.a == index; !own && !awaited) {
        if (const Performed left = finish_pinned(index); left != Performed::done) return left;
    }
    if (!awaited || !holds(slot, number, request)) {
        // relaxed: nobody else looks until the sequence is odd. For who comes after a kill: it must
        // not be later than the capture, which begin_operation() writes after system calls.
        slot.owner.store(owner, std::memory_order_relaxed);
        AEP_NODE_CRASH_POINT("operation: slot taken");
        slot.op = number;
        slot.request = request;
        AEP_NODE_CRASH_POINT("operation: written");
        // If it cannot begin now, the slot never ends with this, and it is begun when asked again.
        // Nobody awaits the reply of an operation that finishes another one.
        ends_with_ = finishes ? 1 : slot.sequence.load(std::memory_order_relaxed) + 2;
        outcome = begin(index);
        if (outcome != SlotOutcome::completed) return unfinished(outcome);
    }
    AEP_NODE_CRASH_POINT("operation: performed");
    host_failures_ = 0;
    reply = slot.reply;
    slot.owner.store(0, std::memory_order_release);  // release: the reply was read before
    AEP_NODE_CRASH_POINT("operation: slot freed");
    return Performed::done;
}

}  // namespace aep
