// Purpose: the host performs operations for dead clients in a slot of its own: once, one at a time,
//          with the reply for the one that asked; no client ever has that slot.
// Who calls it: ctest. With kills: crash_points.cpp, perform_ebpf.cpp.
// Crash rule: in children.
#include <thread>

#include "dsm-core/sharing/records.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "tests/node/fixture.hpp"

namespace aep {
namespace {

using namespace test;

/// A client with two bare chunks that is dead now.
u32 dead_client(NodeHost& host) {
    ClientProcess process([](Client& client) { claim_bare(client, 2); });
    const u32 client = process.attach_and_wait(host);
    process.kill_it();
    return client;
}

void expect_free(const Slot& slot) {
    EXPECT_EQ(slot.owner.load(), 0u);
    EXPECT_FALSE(is_open(slot));
}

TEST(Perform, WithoutAProviderHereAndNow) {
    with_host([&](Host& host) {
        const u32 client = dead_client(host);
        const u32 chunk = bare_chunk_of(client);
        op::ReturnChunk::Reply reply;
        EXPECT_EQ(return_for(host, client, chunk, reply), Performed::done);
        EXPECT_EQ(reply.status, Status::ok);
        EXPECT_EQ(chunk_owner(chunk).load(), OWNER_CACHED);
        EXPECT_EQ(client_at(client).chunks.load(), 1u);
        EXPECT_EQ(return_for(host, client, chunk, reply), Performed::done);
        EXPECT_EQ(reply.status, Status::miss);
        // An operation of its domain, whose only heap is in use.
        op::AcquireHeap::Reply acquired;
        EXPECT_EQ(host.perform_for(client, op::AcquireHeap{}, acquired), Performed::done);
        EXPECT_EQ(acquired.status, Status::need_heaps);
        EXPECT_EQ(slot_at(host_slot()).operations, 3u);
        expect_free(slot_at(host_slot()));
        EXPECT_EQ(context().captured.load(), 0u);
        expect_all_back(host);
    });
}

TEST(Perform, WhatTakesItsTimeIsBegunOnceAndItsReplyWaits) {
    const Directory directory;
    in_child([&] {
        Slow slow;
        Host host(options_in(directory), slow);
        const u32 client = dead_client(host);
        const u32 other = dead_client(host);
        const u32 chunk = bare_chunk_of(client);
        const u32 others = bare_chunk_of(other);
        const Slot& slot = slot_at(host_slot());
        op::ReturnChunk::Reply reply;
        slow.ready = false;
        EXPECT_EQ(return_for(host, client, chunk, reply), Performed::pending);
        EXPECT_FALSE(is_open(slot));
        slow.ready = true;
        for (int i = 0; i < 3; ++i) {
            EXPECT_EQ(return_for(host, client, chunk, reply), Performed::pending);
            EXPECT_EQ(return_for(host, other, others, reply), Performed::pending);
            EXPECT_EQ(host.recover(client).state, RecoveryState::waiting);
            EXPECT_TRUE(is_open(slot));
        }
        slow.finish = true;
        // The other one waits until the reply has been read.
        EXPECT_EQ(return_for(host, other, others, reply), Performed::pending);
        EXPECT_EQ(chunk_owner(others).load(), other);
        EXPECT_EQ(return_for(host, client, chunk, reply), Performed::done);
        EXPECT_EQ(reply.status, Status::ok);
        EXPECT_EQ(return_for(host, other, others, reply), Performed::pending);
        EXPECT_EQ(return_for(host, other, others, reply), Performed::done);
        EXPECT_EQ(reply.status, Status::ok);
        EXPECT_EQ(slot.operations, 2u);
        expect_free(slot);
        expect_all_back(host);
    });
}

TEST(Perform, AReplyThatNobodyAsksForIsNobodyElses) {
    const Directory directory;
    in_child([&] {
        Slow slow;
        Host host(options_in(directory), slow);
        const u32 client = dead_client(host);
        const u32 chunk = bare_chunk_of(client);
        op::ReturnChunk::Reply reply;
        EXPECT_EQ(return_for(host, client, chunk, reply), Performed::pending);
        slow.finish = true;
        // Another request of the same client: the former's reply is not this one's.
        const u32 missing = chunk + 1000;
        EXPECT_EQ(return_for(host, client, missing, reply), Performed::pending);
        EXPECT_EQ(return_for(host, client, missing, reply), Performed::done);
        EXPECT_EQ(reply.status, Status::miss);
        EXPECT_EQ(chunk_owner(chunk).load(), OWNER_CACHED);
        // The client is taken back meanwhile, and the slot is free for the next one's.
        EXPECT_EQ(return_for(host, client, bare_chunk_of(client), reply), Performed::pending);
        EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
        expect_free(slot_at(host_slot()));
        const u32 next = dead_client(host);
        EXPECT_EQ(return_for(host, next, bare_chunk_of(next), reply), Performed::pending);
        EXPECT_EQ(return_for(host, next, bare_chunk_of(next), reply), Performed::done);
        expect_all_back(host);
    });
}

TEST(Perform, NothingBeginsInAPoisonedContext) {
    with_host([&](Host& host) {
        ClientProcess process([](Client& client) {
            claim_bare(client, 1);
            client.pretend_inside(1);
        });
        const u32 client = process.attach_and_wait(host);
        const u32 chunk = bare_chunk_of(client);
        process.kill_it();
        slot_at(host_slot()).owner.store(SlotOwner::make(client, 1).bits);
        host.recover(client);
        ASSERT_TRUE(host.poisoned());
        op::ReturnChunk::Reply reply;
        EXPECT_EQ(return_for(host, client, chunk, reply), Performed::failed);
        expect_free(slot_at(host_slot()));
    });
}

TEST(Perform, WhatADeadClientHoldsIsNotWaitedFor) {
    with_host([&](Host& host) {
        ClientProcess process([](Client& client) {
            client.pretend_inside(1);
            client.take_lock();
        });
        process.attach_and_wait(host);
        process.kill_it();
        const u32 other = dead_client(host);
        op::Leave::Reply reply;
        EXPECT_EQ(host.perform_for(other, op::Leave{}, reply), Performed::done);
        EXPECT_EQ(reply.status, Status::poisoned);
        EXPECT_TRUE(host.poisoned());
    });
}

TEST(Perform, WhatADeadClientHoldsIsUndone) {
    with_host([&](Host& host) {
        host.set_provider(Provider::rollback);
        ClientProcess process([](Client& client) {
            client.pretend_inside(number_of<op::Send>());
            client.take_lock();
            ++share_client(0).groups;
        });
        process.attach_and_wait(host);
        process.kill_it();
        const u32 other = dead_client(host);
        op::Leave::Reply reply;
        EXPECT_EQ(host.perform_for(other, op::Leave{}, reply), Performed::done);
        EXPECT_EQ(reply.status, Status::miss);
        EXPECT_EQ(share_client(0).groups, 0u);
        EXPECT_FALSE(host.poisoned());
        expect_all_back(host);
    });
}

/// Its operation has committed, and somebody sleeps until he is told.
TEST(Perform, WhatADeadClientOwedIsDone) {
    with_host([&](Host& host) {
        host.set_provider(Provider::rollback);
        constexpr u32 SLEEPER = 2;
        ClientProcess process([](Client& client) {
            client.pretend_inside(number_of<op::Send>());
            client.slot_entry().owes = Owed::make(SLEEPER, Sleep::arrivals).bits;
        });
        const u32 client = process.attach_and_wait(host);
        u32 slot = 0;
        while (SlotOwner{slot_at(slot).owner.load()}.client() != client) ++slot;
        const u32 before = words_of(SLEEPER, Sleep::arrivals).sequence.load();
        process.kill_it();
        expect_all_back(host);
        EXPECT_EQ(slot_at(slot).owes.load(), 0u);
        EXPECT_NE(words_of(SLEEPER, Sleep::arrivals).sequence.load(), before);
    });
}

/// A client writes what it likes there: nobody beyond the table is told of anything.
TEST(Perform, WhatADeadClientOwesNobodyIsNotPaid) {
    with_host([&](Host& host) {
        host.set_provider(Provider::rollback);
        const u32 beyond = context().max_clients + 1;
        ClientProcess process([&](Client& client) {
            client.pretend_inside(number_of<op::Send>());
            client.slot_entry().owes = Owed::make(beyond, Sleep::arrivals).bits;
        });
        const u32 client = process.attach_and_wait(host);
        const u32 before = words_of(beyond, Sleep::arrivals).sequence.load();
        process.kill_it();
        EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
        EXPECT_EQ(words_of(beyond, Sleep::arrivals).sequence.load(), before);
        expect_all_back(host);
    });
}

/// A living client is in the middle of an operation with the lock; a dead one is in an operation, too.
TEST(Perform, WhatALivingClientHoldsIsWaitedFor) {
    const Directory directory;
    in_child([&] {
        /// Tells when the dead one's slot has been looked at: the living one's, before it, has been then.
        class Watching final : public Completion {
          public:
            std::atomic<u32> dead_slot{~0u};
            std::atomic<bool> looked{false};
            SlotOutcome complete(u32 slot) override {
                if (slot == dead_slot) looked = true;
                return inner_.complete(slot);
            }
            SlotOutcome begin_operation(u32 slot) override { return inner_.begin_operation(slot); }
            bool performs_here() const override { return true; }

          private:
            NoCompletion inner_;
        } watching;
        Host host(options_in(directory), watching);
        host.set_provider(Provider::rollback);
        const auto in_a_send = [](Client& client) { client.pretend_inside(number_of<op::Send>()); };
        ClientProcess living([&](Client& client) {
            in_a_send(client);
            client.take_lock();
        });
        const u32 alive = living.attach_and_wait(host);
        const u32 holder = share_client(0).lock.taken().holder();
        ASSERT_EQ(SlotOwner{slot_at(holder).owner.load()}.client(), alive);
        const u32 other = dead_client(host);
        ClientProcess process(in_a_send);
        const u32 dead = process.attach_and_wait(host);
        u32 slot = holder;
        while (SlotOwner{slot_at(slot).owner.load()}.client() != dead) ++slot;
        process.kill_it();
        watching.dead_slot = slot;
        std::thread asking([&] {
            op::Leave::Reply reply;
            EXPECT_EQ(host.perform_for(other, op::Leave{}, reply), Performed::done);
            EXPECT_EQ(reply.status, Status::miss);
        });
        while (!watching.looked) sched_yield();
        EXPECT_EQ(share_client(0).lock.taken().holder(), holder);
        EXPECT_TRUE(is_open(slot_at(holder)));
        share_client(0).lock.taken().give_up_of(holder);  // it goes on
        asking.join();
        EXPECT_FALSE(host.poisoned());
    });
}

/// Operations of the host's that are always cut off in the middle: with the lock, a count one too high.
TEST(Perform, WhatTheHostIsInIsUndoneAndNotTriedForEver) {
    const Directory directory;
    in_child([&] {
        class Broken final : public Completion {
          public:
            u32 begun = 0;
            SlotOutcome complete(u32 slot) override {
                return is_open(slot_at(slot)) ? SlotOutcome::no_capture : SlotOutcome::completed;
            }
            SlotOutcome begin_operation(u32 slot) override {
                ++begun;
                slot_at(slot).sequence.fetch_add(1);
                EXPECT_EQ(share_client(0).groups, 0u) << "of the one before";
                EXPECT_EQ(share_client(0).lock.taken().holder(), SlotLock::NO_SLOT);
                if (testing::Test::HasFailure()) return SlotOutcome::pending;
                undo_log_of(slot).note_lock(0, share_client(0).lock.taken());
                share_client(0).lock.taken().lock(slot);
                log_in(slot);
                ++share_client(0).groups;
                return SlotOutcome::pending;
            }
            bool performs_here() const override { return false; }
        } broken;
        Host host(options_in(directory), broken);
        host.set_provider(Provider::rollback);
        const u32 client = dead_client(host);
        op::Leave::Reply reply;
        u32 asked = 0;
        for (; !host.poisoned() && asked < 20; ++asked) {
            const Performed performed = host.perform_for(client, op::Leave{}, reply);
            EXPECT_EQ(performed, host.poisoned() ? Performed::failed : Performed::pending);
        }
        EXPECT_EQ(broken.begun, 4u);
        EXPECT_EQ(asked, 5u);
        EXPECT_EQ(share_client(0).groups, 1u) << "as the last one left it";
    });
}

/// As if somebody wrote the words of a reply and of the tables again and again.
TEST(Perform, WhoNeverHasLeftIsWaitedForWithAnEnd) {
    const Directory directory;
    in_child([&] {
        class Vain final : public Completion {
          public:
            SlotOutcome complete(u32) override { return SlotOutcome::completed; }
            SlotOutcome begin_operation(u32 slot) override {
                slot_at(slot).sequence.fetch_add(2);  // it has ended, and there is more to do
                return SlotOutcome::completed;
            }
            bool performs_here() const override { return false; }
        } vain;
        Host host(options_in(directory), vain);
        const u32 client = dead_client(host);
        share_client(client).inbox.open = 1;
        EXPECT_EQ(host.recover(client).state, RecoveryState::waiting);
        share_client(client).inbox.open = 0;
        EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
        expect_all_back(host);
    });
}

/// A thread of a living client that has left an operation for good (a signal handler jumped).
TEST(Perform, WhatALivingClientLeftIsUndoneWhenItAsks) {
    with_host([&](Host& host) {
        host.set_provider(Provider::rollback);
        const auto ask_about = [&](u32 number) {
            ClientProcess process([&](Client& client) {
                client.pretend_inside(number);
                if (number == number_of<op::Open>()) client.take_lock();
            });
            const u32 client = process.attach_and_wait(host);
            AskMessage ask = good_ask(Ask::complete_slot);
            while (SlotOwner{slot_at(ask.slot).owner.load()}.client() != client) ++ask.slot;
            const AnswerMessage answer = host.complete_slot(process.pid(), ask);
            EXPECT_EQ(is_open(slot_at(ask.slot)), answer.error != 0);
            process.kill_it();
            return answer.error;
        };
        EXPECT_EQ(ask_about(number_of<op::Open>()), 0u);
        EXPECT_EQ(ask_about(number_of<op::ClaimChunks>()), 0u);
        EXPECT_EQ(ask_about(number_of<op::Refill>()), u32{ENOTRECOVERABLE});
        EXPECT_FALSE(host.poisoned());
        expect_all_back(host);
    });
}

TEST(Perform, TheSlotIsNoClients) {
    const Directory directory;
    in_child([&] {
        NodeOptions options = options_in(directory);
        Host host(options);
        EXPECT_EQ(host_slot(), options.max_slots);
        ClientProcess process;
        const u32 client = process.attach_and_wait(host);
        EXPECT_EQ(all_of(host.check()), "");
        slot_at(host_slot()).owner.store(slot_at(0).owner.load());
        const std::string found = all_of(host.check());
        EXPECT_NE(found.find("a living client has it (" + std::to_string(client)),
                  std::string::npos)
            << found;
        process.kill_it();
        expect_all_back(host);
    });
}

}  // namespace
}  // namespace aep
