// Purpose: see victim.hpp.
// Who calls it: see victim.hpp.
#include "tests/provider/victim.hpp"

#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "dsm-core/context/node_ops.hpp"

namespace aep::test {

Heap* take_heap(Session& session, u32 slot) {
    for (;;) {
        const auto reply = perform_in_image(slot, op::AcquireHeap{});
        if (reply.status == Status::ok) {
            session.heaps[slot] = reply.heap;
            return session.heaps[slot];
        }
        const u32 mapped = domain_at(CLIENT).heaps_mapped.load();
        if (mapped + 8 > MAX_HEAPS) _exit(EXHAUSTED);
        perform_in_image(slot, op::AddHeaps{.mapped = mapped + 8});
    }
}

Run take_run(u32 slot, Heap* heap, u32 slices) {
    for (;;) {
        const auto reply =
            perform_in_image(slot, op::TakeRun{.heap = heap, .slices = slices, .alignment = 1});
        if (reply.status == Status::ok) return reply.run;
        const auto claimed = perform_in_image(slot, op::ClaimChunks{.count = 1});
        if (claimed.status != Status::ok) _exit(EXHAUSTED);
        perform_in_image(
            slot,
            op::AddChunks{
                .first = claimed.first, .count = 1, .zero = claimed.clean, .committed = true});
    }
}

namespace {

void large_object(u32 slot, Heap* heap) {
    const Run run = take_run(slot, heap, 3);
    perform_in_image(slot, op::MakeLarge{.run = run});
    const auto grown = perform_in_image(slot, op::GrowLarge{.address = run.address(), .slices = 5});
    if (grown.status == Status::ok) {
        // As the driver does: the descriptor says so once the memory is there.
        desc_of(run.first)->slices = 5;
        perform_in_image(slot, op::ShrinkLarge{.address = run.address(), .slices = 2});
    }
    perform_in_image(slot, op::FreeLarge{.address = run.address()});
}

void one_round(Session& session, u32 slot) {
    Heap* heap = take_heap(session, slot);
    for (u32 c = 1; c < 12; c += 5) {
        const Run run = take_run(slot, heap, 1);
        perform_in_image(slot, op::Refill{.heap = heap, .size_class = c, .run = run});
        perform_in_image(slot, op::Refill{.heap = heap, .size_class = c});
    }
    large_object(slot, heap);
    const Run spare = take_run(slot, nullptr, 2);
    perform_in_image(slot, op::GiveRun{.first = spare.first, .slices = 2, .now = 1});
    perform_in_image(slot, op::Trim{.heap = heap, .now = 2});
    const auto purge = perform_in_image(slot, op::BeginPurge{.decay_ms = 0, .now = 100});
    if (purge.status == Status::ok) {
        perform_in_image(slot, op::EndPurge{.chunk = purge.chunk,
                                            .zero_slices = purge.slices,
                                            .slices = purge.slices,
                                            .committed = true});
    }
    const auto detached = perform_in_image(slot, op::DetachChunk{.keep = 0});
    if (detached.status == Status::ok) {
        perform_in_image(
            slot, op::ReturnChunk{.chunk = detached.chunk, .clean = session.rounds % 2 != 0});
    }
    session.heaps[slot] = nullptr;
    perform_in_image(slot, op::AbandonHeap{.heap = heap, .now = 3});
    session.rounds.fetch_add(1);
}

}  // namespace

[[noreturn]] void churn(Session& session, u32 slot) {
    if (Heap* former = session.heaps[slot]) {
        session.heaps[slot] = nullptr;
        perform_in_image(slot, op::AbandonHeap{.heap = former});
    }
    session.ready.fetch_add(1);
    for (;;) one_round(session, slot);
}

void churn_on_thread(Session& session, u32 slot) {
    std::thread([&session, slot] { churn(session, slot); }).detach();
}

bool wait_in_image(const Node& node, pid_t process, usize threads) {
    return wait_in_image(node.image, process, threads);
}

void kill_waiting(Node& node, u32 slot, const std::function<void()>& operation) {
    const pid_t victim = node.spawn(operation);
    ASSERT_TRUE(soon([&] { return wait_in_image(node, victim, 1); }));
    kill(victim, SIGKILL);
    wait_for(victim);
    ASSERT_EQ(slot_at(slot).sequence % 2, 1u);
    node.provider->remove_member(static_cast<u32>(victim), CLIENT);
}

}  // namespace aep::test
