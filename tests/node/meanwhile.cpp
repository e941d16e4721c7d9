// Purpose: what others do while an operation that crosses nodes is between two of its steps, with nothing locked. A message's
//          reference is there already, the records that were at hand for it may not be; a reference is given up already, what
//          it led to is still known by its address.
// Who calls it: ctest; built with -DAEP_CRASH_POINTS, whose points are where the other thread comes in.
// Crash rule: in children.
#include <thread>

#include "dsm-core/sharing/away.hpp"
#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/records.hpp"
#include "node/context_state.hpp"
#include "tests/node/neighbour.hpp"

namespace aep {
namespace {

using namespace test;

constexpr u64 BYTES = 64;
constexpr Caller OTHER_THREAD{1, 3};  // of client 1, in a slot of its own
constexpr Label LABEL{.tag = 5, .type = 6, .version = 7};

void (*meanwhile)() = nullptr;

/// Client 1 receives; `done` is what its other thread does once the message's reference is the node's.
op::Receive::Reply receive_while(void (*done)()) {
    meanwhile = done;
    crash_point_hook = [](const char* name) {
        if (meanwhile == nullptr || std::strcmp(name, "away: message taken") != 0) return;
        std::thread other(std::exchange(meanwhile, nullptr));
        other.join();
    };
    const op::Receive::Reply reply = ask(1, op::Receive{});
    crash_point_hook = nullptr;
    EXPECT_EQ(meanwhile, nullptr) << "the point was never reached";
    return reply;
}

u64 own_memory() { return chunk_address(ChunkIndex{first_chunk_of(1)}); }

/// References to objects of its own, until there are no more records.
void use_all_records() {
    Status status = Status::ok;
    for (u64 at = own_memory(); status == Status::ok; at += BYTES)
        status = perform(OTHER_THREAD, op::Reference{.object = at, .bytes = BYTES}).status;
    EXPECT_EQ(status, Status::need_records);
}

void fill_own_mailbox() {
    const op::Send to_itself{.object = own_memory(), .to = id_of(1), .bytes = BYTES};
    Status status = Status::ok;
    while (status == Status::ok) status = perform(OTHER_THREAD, to_itself).status;
    EXPECT_EQ(status, Status::full);
}

/// body(other, address of its object, which it has sent to client 1)
template <class Body>
void with_a_message(Body body) {
    between_nodes(
        [&](Neighbour& other) {
            client_at(1).generation = 1;
            EXPECT_EQ(ask(1, op::Open{}).status, Status::ok);
            perform(1, op::ClaimChunks{.count = 1});
            const u64 theirs = chunk_address(ChunkIndex{context().chunk_count - 1});
            other.send(0, theirs, id_of(1).bits, false, LABEL);
            body(other, theirs);
            EXPECT_EQ(walk(), "");
        },
        40);
}

bool node_refers_to(u32 object) {
    return era_tables().ref(HERE, object).load() == era::Cell::of(object).bits;
}

TEST(Meanwhile, WithoutRecordsItIsAMessageOfThisNodes) {
    with_a_message([](Neighbour& other, u64 theirs) {
        EXPECT_EQ(receive_while(use_all_records).status, Status::need_records);
        EXPECT_EQ(inbox_at(1).messages.load(), 1u);
        EXPECT_EQ(walk(), "");
        perform(Caller{1, 1}, op::AddRecords{.exports = 80, .holders = 80});
        const op::Receive::Reply reply = ask(1, op::Receive{});
        EXPECT_EQ(reply.status, Status::ok);
        EXPECT_EQ(reply.object, theirs);
        EXPECT_EQ(reply.sender.bits, other.id());
        EXPECT_EQ(reply.label, LABEL);
        EXPECT_EQ(ask(1, op::Drop{.object = theirs}).status, Status::ok);
        perform(Caller{0, host_slot()}, op::Settle{});
        EXPECT_FALSE(node_refers_to(other.number_of(0)));
    });
}

/// Its home uses the memory of what this node has given up at once, before this node has forgotten it.
TEST(Meanwhile, WhatLiesWhereAnotherObjectIsBeingGivenUpIsReceived) {
    static Neighbour* home;
    static u64 address;
    static std::thread receiver;
    static op::Receive::Reply second;
    with_a_message([](Neighbour& other, u64 theirs) {
        home = &other;
        address = theirs;
        EXPECT_EQ(ask(1, op::Receive{}).status, Status::ok);
        EXPECT_EQ(ask(1, op::Drop{.object = theirs}).status, Status::ok);
        other.drop(0);
        crash_point_hook = [](const char* name) {
            if (receiver.joinable() || std::strcmp(name, "away: reference given up") != 0) return;
            home->send(1, address, id_of(1).bits);
            receiver = std::thread([] { second = perform(OTHER_THREAD, op::Receive{}); });
            while (!node_refers_to(home->number_of(1))) std::this_thread::yield();
        };
        perform(Caller{0, host_slot()}, op::Settle{});
        ASSERT_TRUE(receiver.joinable()) << "the point was never reached";
        receiver.join();
        crash_point_hook = nullptr;
        EXPECT_EQ(second.status, Status::ok);
        EXPECT_EQ(second.object, theirs);
        EXPECT_EQ(ask(1, op::Drop{.object = theirs}).status, Status::ok);
    });
}

TEST(Meanwhile, WithoutRecordsAndRoomItsReferenceGoes) {
    with_a_message([](Neighbour& other, u64 theirs) {
        EXPECT_EQ(receive_while([] {
                      fill_own_mailbox();
                      use_all_records();
                  }).status,
                  Status::gone);
        EXPECT_EQ(inbox_at(1).messages.load(), MAILBOX_MESSAGES);
        EXPECT_EQ(ask(1, op::Drop{.object = theirs}).status, Status::not_held);
        perform(Caller{0, host_slot()}, op::Settle{});
        EXPECT_FALSE(node_refers_to(other.number_of(0)));
        EXPECT_EQ(find_export(theirs), NO_RECORD);
    });
}

}  // namespace
}  // namespace aep
