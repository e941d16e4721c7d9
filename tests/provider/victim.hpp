// Purpose: what a victim does: operations through the image, back to back, of every kind.
// Who calls it: the provider's tests, in forked victims.
#pragma once

#include <functional>

#include "aep-lib/image/enter.hpp"
#include "tests/provider/node.hpp"

namespace aep::test {

/// One operation on the slot, through the shadow entry.
template <class O>
typename O::Reply perform_in_image(u32 slot, const O& o) {
    return perform_through(slot_at(slot), o);
}

/// Gives back what the slot's former thread had, takes a heap, and goes through all operations;
/// again and again, until the process dies. Ends the process with EXHAUSTED when the pool is empty.
inline constexpr int EXHAUSTED = 77;
[[noreturn]] void churn(Session& session, u32 slot);

/// A heap for the slot's thread.
Heap* take_heap(Session& session, u32 slot);
/// A run of the domain, which gets another chunk when it needs one.
Run take_run(u32 slot, Heap* heap, u32 slices);

/// Starts a thread in a victim that churns on the slot.
void churn_on_thread(Session& session, u32 slot);

/// Whether as many threads of the process wait in futex calls of the image.
bool wait_in_image(const Node& node, pid_t process, usize threads);
/// A victim that performs an operation, which waits for a lock that the test holds; killed there.
void kill_waiting(Node& node, u32 slot, const std::function<void()>& operation);
template <class O>
void kill_waiting(Node& node, u32 slot, const O& o) {
    kill_waiting(node, slot, std::function<void()>([&] { perform_in_image(slot, o); }));
}
inline constexpr op::TakeRun NEEDS_ARENA{.slices = 1, .alignment = 1};
inline constexpr op::AcquireHeap NEEDS_HEAPS{};

}  // namespace aep::test
