// Purpose: see victim.hpp.
// Who calls it: see victim.hpp.
#include "tests/provider/victim.hpp"

#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "dsm-core/context/node_ops.hpp"

namespace aep::test {

Reply perform_in_image(u32 slot, u32 number, const Request& request) {
    Slot& s = slot_at(slot);
    s.op = number;
    s.request = request;
    enter_image()(&s);
    return s.reply;
}

Heap* take_heap(Session& session, u32 slot) {
    for (;;) {
        const Reply reply = perform_in_image(slot, {.op = Op::heap_acquire});
        if (reply.status == Status::ok) {
            session.heaps[slot] = reinterpret_cast<Heap*>(reply.value);
            return session.heaps[slot];
        }
        const u32 mapped = domain_at(CLIENT).heaps_mapped.load();
        if (mapped + 8 > MAX_HEAPS) _exit(EXHAUSTED);
        perform_in_image(slot, {.op = Op::add_heaps, .a = mapped + 8});
    }
}

Run take_run(u32 slot, Heap* heap, u32 slices) {
    for (;;) {
        const Reply reply =
            perform_in_image(slot, {.op = Op::take_run, .heap = heap, .a = slices, .b = 1});
        if (reply.status == Status::ok) return reply.run;
        const Reply claimed =
            perform_in_image(slot, static_cast<u32>(NodeOp::claim_chunks),
                             {.op = Op::count, .a = 1, .b = 1, .mask = raw(NO_CHUNK)});
        if (claimed.status != Status::ok) _exit(EXHAUSTED);
        perform_in_image(slot, {.op = Op::add_chunks,
                                .a = claimed.value,
                                .b = 1,
                                .zero = claimed.mask != 0,
                                .committed = true});
    }
}

namespace {

void large_object(u32 slot, Heap* heap) {
    const Run run = take_run(slot, heap, 3);
    perform_in_image(slot, {.op = Op::large_birth, .run = run});
    const Reply grown =
        perform_in_image(slot, {.op = Op::grow_large, .heap = heap, .a = run.address(), .b = 5});
    if (grown.status == Status::ok) {
        // As the driver does: the descriptor says so once the memory is there.
        desc_of(run.first)->slices = 5;
        perform_in_image(slot, {.op = Op::shrink_large, .heap = heap, .a = run.address(), .b = 2});
    }
    perform_in_image(slot, {.op = Op::free_large, .heap = heap, .a = run.address()});
}

void one_round(Session& session, u32 slot) {
    Heap* heap = take_heap(session, slot);
    for (u32 c = 1; c < 12; c += 5) {
        const Run run = take_run(slot, heap, 1);
        perform_in_image(slot, {.op = Op::page_birth, .heap = heap, .a = c, .run = run});
        perform_in_image(slot, {.op = Op::find_page, .heap = heap, .a = c});
    }
    large_object(slot, heap);
    const Run spare = take_run(slot, nullptr, 2);
    perform_in_image(slot, {.op = Op::commit_run, .a = raw(spare.first), .b = 2});
    perform_in_image(slot, {.op = Op::give_run, .a = raw(spare.first), .b = 2, .now = 1});
    perform_in_image(slot, {.op = Op::trim, .heap = heap, .now = 2});
    const Reply purge = perform_in_image(slot, {.op = Op::purge_begin, .a = 0, .now = 100});
    if (purge.status == Status::ok) {
        perform_in_image(slot, {.op = Op::purge_end,
                                .a = purge.value,
                                .b = purge.mask,
                                .mask = purge.mask,
                                .committed = true});
    }
    const Reply detached = perform_in_image(slot, {.op = Op::detach_chunk, .a = 0});
    if (detached.status == Status::ok) {
        perform_in_image(slot, static_cast<u32>(NodeOp::return_chunk),
                         {.op = Op::count, .a = detached.value, .b = session.rounds % 2});
    }
    session.heaps[slot] = nullptr;
    perform_in_image(slot, {.op = Op::heap_abandon, .heap = heap, .now = 3});
    session.rounds.fetch_add(1);
}

}  // namespace

[[noreturn]] void churn(Session& session, u32 slot) {
    if (Heap* former = session.heaps[slot]) {
        session.heaps[slot] = nullptr;
        perform_in_image(slot, {.op = Op::heap_abandon, .heap = former});
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

void kill_waiting(Node& node, u32 slot, const Request& request) {
    const pid_t victim = node.spawn([&] { perform_in_image(slot, request); });
    ASSERT_TRUE(soon([&] { return wait_in_image(node, victim, 1); }));
    kill(victim, SIGKILL);
    wait_for(victim);
    ASSERT_EQ(slot_at(slot).sequence % 2, 1u);
    node.provider->remove_member(static_cast<u32>(victim), CLIENT);
}

}  // namespace aep::test
