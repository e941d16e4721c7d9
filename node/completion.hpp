// Purpose: who finishes operations whose thread is gone, and who notices such deaths, as the node
//          host and the daemon see them. What a provider implements to plug in.
// Who calls it: recovery (Completion), the daemon's loop (both).
// Crash rule: asking twice is allowed: a slot whose operation is complete has an even sequence.
//
// Nothing here waits, but for performs_here(). An answer that takes time is `pending`: event_fd()
// becomes readable, the daemon calls on_event() and then asks again.
#pragma once

#include <string>

#include "dsm-core/context/format.hpp"

namespace aep {

enum class SlotOutcome {
    completed,   // the slot's sequence is even now, and no completer runs on its stack
    pending,     // under way; ask again after the next event
    no_capture,  // nobody knows where the thread was: it cannot be completed, ever
};

inline bool is_open(const Slot& slot) {
    // acquire: who sees it even sees what the operation did.
    return (slot.sequence.load(std::memory_order_acquire) & 1) != 0;
}
/// Whether nothing is open in a slot and no completer has it. Asked in this order: a completer lets
/// go of a slot after its operation has ended.
inline bool is_at_rest(const Slot& slot) {
    // acquire: what the completer did with the slot's capture is over.
    return !is_open(slot) && slot.completer.load(std::memory_order_acquire) == 0;
}

/// For people.
constexpr const char* provider_name(Provider provider) {
    switch (provider) {
        case Provider::none:
            return "none";
        case Provider::ebpf:
            return "ebpf";
        case Provider::kernel:
            return "kernel";
        case Provider::rollback:
            return "rollback";
    }
    return "damaged";
}

/// What becomes of an operation whose thread is killed, for people.
constexpr const char* protection_by(Provider provider) {
    switch (provider) {
        case Provider::none:
            return "an operation whose thread is killed poisons the context (for tests)";
        case Provider::ebpf:
            return "an operation whose thread is killed is completed";
        case Provider::kernel:
            return "a thread that is killed ends its operation first";
        case Provider::rollback:
            return "an operation whose thread is killed is undone";
    }
    return "damaged";
}

/// Finishes the operation that is open in a slot whose thread is dead or has left it.
class Completion {
  public:
    virtual ~Completion() = default;
    virtual SlotOutcome complete(u32 slot) = 0;
    /// Begins the operation that is written in `slot`, which complete() has just called completed:
    /// its sequence is odd from then on until the operation has ended, whoever is killed. No
    /// longer even, and pending: to be asked for with complete(). Even, and pending: nothing has
    /// begun; ask again after the next event.
    virtual SlotOutcome begin_operation(u32 slot) = 0;
    /// Whether begin_operation() performs it before it returns. Then it may wait for what a thread
    /// holds that has died in an operation, until the context is poisoned.
    virtual bool performs_here() const = 0;
    /// The daemon serves and has left its terminal: processes may be started.
    virtual void begin() {}
    /// Readable when answers wait; -1: never.
    virtual int event_fd() const { return -1; }
    /// Takes the answers in. The daemon then sweeps.
    virtual void on_event() {}
    /// Whether what it needs for that ends again and again before it has finished anything: what is
    /// pending may stay so for long.
    virtual bool fails() const { return false; }
};

/// Provider none: nothing that was left open is ever completed. An operation of the host's is
/// performed here and now; if the host is killed in it, the slot is found open like any other.
class NoCompletion final : public Completion {
  public:
    SlotOutcome complete(u32 slot) override;
    SlotOutcome begin_operation(u32 slot) override;
    bool performs_here() const override { return true; }
};

/// What a provider needs to know of the context that it watches.
struct WatchedContext {
    int context_fd = -1;  // the context file
    int image_fd = -1;    // the image, sealed
    int pool_fd = -1;
    int constants_fd = -1;  // a copy of the context's constants that no client has, sealed
    std::string directory;  // the context's own, where pins may go
};

/// Sees to it that operations can be completed although their thread is killed.
class Capture {
  public:
    virtual ~Capture() = default;
    virtual Provider kind() const = 0;
    /// Begins, or finds what an earlier daemon began. Empty: it works; else why not, one line.
    virtual std::string start(const WatchedContext&) { return ""; }
    /// A process becomes a client: before it is told so, and again for each daemon. Empty: the
    /// provider sees to it; else why not, one line.
    virtual std::string watch(u32 /*client*/, pid_t /*pid*/, int /*pidfd*/) { return ""; }
    /// It is none any more.
    virtual void unwatch(u32 /*client*/, pid_t /*pid*/) {}
    /// Readable when a death was captured; -1: never.
    virtual int doorbell_fd() const { return -1; }
    /// Takes the captures in. The daemon then sweeps.
    virtual void on_doorbell() {}
    /// With each sweep: is what outlives the daemon still there?
    virtual void look_after() {}
    /// The context is taken down for good: remove what outlives the daemon.
    virtual void remove() {}
};

/// Provider none.
class NoCapture final : public Capture {
  public:
    Provider kind() const override { return Provider::none; }
};

}  // namespace aep
