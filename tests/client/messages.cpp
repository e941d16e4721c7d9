// Purpose: what a process's sends cost in operations, and what they leave.
// Who calls it: CTest (client_messages).
// Crash rule: fixture.hpp.
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <fstream>

#include "shim/sharing/sharing.hpp"

#include "shim/backing/pool_attach.hpp"
#include "shim/driver/forking.hpp"
#include "shim/sharing/group.hpp"
#include "shim/sharing/guests.hpp"
#include "shim/sharing/many.hpp"
#include "shim/sharing/share_fd.hpp"
#include "shim/sharing/share_operation.hpp"
#include "tests/client/fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep::test {
namespace {

constexpr usize BYTES = 100;

/// A block that can be sent.
void* block() {
    void* p = allocate(BYTES);
    EXPECT_NE(mark_shared(p), 0u);
    return p;
}
long send(void* p, bool drop) { return share_send(share_self(), p, BYTES, 0, {.drop = drop}); }
void* receive() {
    Received received;
    EXPECT_EQ(share_receive({}, 0, received), 0);
    return received.object;
}

/// How many operations of sharing `f` makes: each is one turn of the thread's slot.
template <class F>
u64 operations_of(F&& f) {
    const u64 before = thread_slot->turns.load();
    f();
    return (thread_slot->turns.load() - before) / 2;
}

/// A process that takes part and has sent before: the records that it needs are there.
template <class Body>
void in_sender(Body body) {
    const Host host;
    host.in_client([&] {
        ASSERT_EQ(share_attach("one"), 0);
        ASSERT_EQ(send(block(), true), 0);
        void* const p = receive();
        EXPECT_EQ(share_drop(p), Dropped::last);
        deallocate_unshared(p);
        body();
        expect_sound();
    });
}

TEST(Messages, AReferenceGoesWithItsMessageInOneOperation) {
    in_sender([] {
        void* const p = block();
        EXPECT_EQ(operations_of([&] { EXPECT_EQ(send(p, true), 0); }), 1u);
        EXPECT_EQ(share_drop(p), Dropped::not_held);
        EXPECT_EQ(receive(), p);
        EXPECT_EQ(share_query(p).references, 1u);
        EXPECT_EQ(operations_of([&] { EXPECT_EQ(send(p, true), 0); }), 1u);
        EXPECT_EQ(receive(), p);
        EXPECT_EQ(share_drop(p), Dropped::last);
        deallocate_unshared(p);
    });
}

/// A page where one block was sent asks at each free and realloc; but only of what was sent is more asked than whether anything was.
TEST(Messages, BlocksBesideOneThatWasSentGoWithoutAnOperation) {
    in_sender([] {
        void* const sent = block();
        ASSERT_EQ(send(sent, false), 0);
        const auto page_of = [](const void* p) { return reinterpret_cast<uptr>(p) / SLICE_SIZE; };
        std::vector<void*> beside;
        do beside.push_back(allocate(BYTES));
        while (page_of(beside.back()) == page_of(sent) && beside.size() < 10);
        ASSERT_EQ(beside.size(), 10u);
        EXPECT_EQ(operations_of([&] {
                      for (void*& p : beside) {
                          p = reallocate(p, 4 * BYTES);
                          deallocate(p);
                      }
                  }),
                  0u);
        EXPECT_EQ(operations_of([&] { deallocate(sent); }), 1u);
        EXPECT_EQ(receive(), sent);
        EXPECT_EQ(share_drop(sent), Dropped::last);
        deallocate_unshared(sent);
    });
}

/// What was not sent is as it was: the reference is the sender's.
TEST(Messages, WhatIsNotSentStays) {
    in_sender([] {
        void* const p = block();
        for (u32 i = 0; i < MAILBOX_MESSAGES; ++i) ASSERT_EQ(send(p, false), 0);
        EXPECT_EQ(send(p, true), -EAGAIN);
        EXPECT_EQ(share_send(share_self(), p, BYTES, 1, {.drop = true}), -ETIMEDOUT);
        EXPECT_EQ(share_query(p, true).references, MAILBOX_MESSAGES + 1);
        EXPECT_EQ(share_send({12345}, p, BYTES, 0, {.drop = true}), -ESRCH);
        for (u32 i = 0; i < MAILBOX_MESSAGES; ++i) {
            EXPECT_EQ(receive(), p);
            EXPECT_EQ(share_drop(p), Dropped::kept);
        }
        EXPECT_EQ(share_query(p, true).references, 1u);
        EXPECT_EQ(share_drop(p), Dropped::last);
        deallocate_unshared(p);
    });
}

TEST(Messages, ManyGoAndComeInFewOperations) {
    in_sender([] {
        constexpr u32 COUNT = 24;
        Parcel parcels[COUNT];
        for (Parcel& parcel : parcels) parcel = {block(), BYTES};
        EXPECT_EQ(operations_of([&] {
                      EXPECT_EQ(share_send_many(share_self(), parcels, COUNT, 0, {.drop = true}),
                                COUNT);
                  }),
                  COUNT / op::SendMany::MOST);
        Received received[COUNT];
        EXPECT_EQ(
            operations_of([&] { EXPECT_EQ(share_receive_many({}, 0, received, COUNT), COUNT); }),
            COUNT / op::ReceiveMany::MOST);
        void* objects[COUNT];
        for (u32 i = 0; i < COUNT; ++i) {
            EXPECT_EQ(received[i].object, parcels[i].object);
            EXPECT_EQ(received[i].bytes, parcels[i].bytes);
            objects[i] = received[i].object;
        }
        u32 last = 0;
        EXPECT_EQ(
            operations_of([&] { EXPECT_EQ(share_drop_many(objects, COUNT, last), MOST_DROPPED); }),
            1u);
        EXPECT_EQ(last, (1U << MOST_DROPPED) - 1);  // they are all its own
        EXPECT_EQ(share_drop_many(objects + MOST_DROPPED, COUNT - MOST_DROPPED, last),
                  COUNT - MOST_DROPPED);
        for (void* const object : objects) deallocate_unshared(object);
        EXPECT_EQ(share_drop_many(objects, COUNT, last), 0u);
        EXPECT_EQ(share_receive_many({}, 0, received, COUNT), -EAGAIN);
    });
}

TEST(Messages, OfManyThoseBeforeOneThatCannotBeSentGo) {
    in_sender([] {
        char stray[BYTES];
        const Parcel parcels[] = {{block(), BYTES}, {stray, BYTES}, {block(), BYTES}};
        EXPECT_EQ(share_send_many(share_self(), parcels, 3, 0, {.drop = true}), 1);
        Received received[4];
        EXPECT_EQ(share_receive_many({}, 0, received, 4), 1);
        EXPECT_EQ(received[0].object, parcels[0].object);
    });
}

/// A program that waits for ever has not sent, or got, any.
TEST(Messages, OfManyTheFirstAloneIsWaitedFor) {
    in_sender([] {
        alarm(60);
        void* const p = block();
        for (u32 i = 5; i < MAILBOX_MESSAGES; ++i) ASSERT_EQ(send(p, false), 0);
        Parcel parcels[9];
        for (Parcel& parcel : parcels) parcel = {block(), BYTES};
        EXPECT_EQ(share_send_many(share_self(), parcels, 9, -1, {.drop = true}), 5);
        std::vector<Received> received(MAILBOX_MESSAGES + 1);
        EXPECT_EQ(share_receive_many({}, -1, received.data(), MAILBOX_MESSAGES + 1),
                  long{MAILBOX_MESSAGES});
    });
}

TEST(Messages, AnOperationThatTookSomeOfManyDidNotMiss) {
    in_sender([] {
        void* const p = block();
        for (int i = 0; i < 2; ++i) ASSERT_EQ(send(p, false), 0);
        ASSERT_TRUE(pool_is_accessible());
        const op::ReceiveMany request{.at = this_client.index, .most = 5};
        const auto some = perform_in_image(request);
        EXPECT_EQ(some.status, Status::ok);
        EXPECT_EQ(some.count, 2u);
        EXPECT_EQ(perform_in_image(request).status, Status::miss);
    });
}

TEST(Messages, AGroupThatIsSentAwayAmongManyIsNotTheSendersAnyMore) {
    in_sender([] {
        void *group = nullptr, *root = nullptr;
        ASSERT_EQ(group_create(0, group), 0);
        const Parcel parcels[] = {{block(), BYTES}, {group, 0}};
        ASSERT_EQ(group_root(group, root), -ENOENT);
        EXPECT_EQ(share_send_many(share_self(), parcels, 2, 0, {.drop = true}), 2);
        EXPECT_EQ(group_root(group, root), -EINVAL);
    });
}

/// As of one message. Its object lies, as far as the process knows, where another one has got memory since.
TEST(Messages, OfManyThatCannotBeLookedAtTheReferencesGoAndItIsSaid) {
    in_sender([] {
        void* const p = block();
        for (int i = 0; i < 3; ++i) ASSERT_EQ(send(p, false), 0);
        const u32 chunk = chunk_index(reinterpret_cast<uptr>(p));
        pool.set_state(chunk, 1, ChunkView::other);
        refuse_call(__NR_mprotect, 2, PROT_READ | PROT_WRITE, ENOMEM);
        Received received[4];
        EXPECT_EQ(share_receive_many({}, 0, received, 2), -ENOMEM);
        EXPECT_EQ(share_receive({}, 0, received[0]), -ENOMEM);
        EXPECT_EQ(share_receive_many({}, 0, received, 4), -EAGAIN);
        pool.set_state(chunk, 1, ChunkView::ours);
        EXPECT_EQ(share_query(p, true).references, 1u);
        EXPECT_EQ(share_drop(p), Dropped::last);
        deallocate_unshared(p);
    });
}

/// Blocks of the process's own that come back to it: groups of which the last reference goes, as in a thread that is stopped right
/// afterwards.
class ComeBack {
  public:
    explicit ComeBack(u32 count) : groups_(count) {
        for (void*& group : groups_) EXPECT_EQ(group_create(0, group), 0);
        share_collect();
    }
    void begin() const {
        for (void* group : groups_)
            perform_in_image(op::Drop{.object = reinterpret_cast<uptr>(group)});
        EXPECT_TRUE(is_there());
    }
    static bool is_there() { return has_returned(share_client(this_client.index)); }

  private:
    std::vector<void*> groups_;
};

TEST(Messages, WhatHasComeBackIsTakenManyAtOnce) {
    in_sender([] {
        const ComeBack some(2 * op::TakeReturned::MOST + 1);
        some.begin();
        EXPECT_EQ(operations_of([] { share_collect(); }), 3u);
        EXPECT_FALSE(ComeBack::is_there());
        EXPECT_EQ(operations_of([] { share_collect(); }), 0u);
    });
}

TEST(Messages, WhoOnlySendsLooksAtTimesForWhatHasComeBack) {
    in_sender([] {
        void* const p = block();
        ASSERT_EQ(send(p, false), 0);
        const ComeBack one(1);
        one.begin();
        u32 calls = 0;
        for (; ComeBack::is_there() && calls < 100; ++calls) EXPECT_EQ(send(p, false), 0);
        EXPECT_GT(calls, 5u);
        EXPECT_LT(calls, 20u);
    });
}

/// So that what is large does not lie about.
TEST(Messages, WhoSendsMuchLooksEachTime) {
    in_sender([] {
        constexpr usize MUCH = 100 * KiB;
        void* const p = allocate(MUCH);
        EXPECT_NE(mark_shared(p), 0u);
        const ComeBack one(1);
        one.begin();
        EXPECT_EQ(share_send(share_self(), p, MUCH, 0), 0);
        EXPECT_FALSE(ComeBack::is_there());
    });
}

TEST(Messages, WhoFindsNoMessageLooksForWhatHasComeBack) {
    in_sender([] {
        const ComeBack one(1);
        one.begin();
        Received received;
        EXPECT_EQ(share_receive({}, 0, received), -EAGAIN);
        EXPECT_FALSE(ComeBack::is_there());
    });
}

/// Whether a thread of this process sleeps on a futex.
bool sleeps(pid_t thread) {
    std::ifstream call("/proc/self/task/" + std::to_string(thread) + "/syscall");
    long number = -1;
    return call >> number && number == SYS_futex;
}

/// Whoever waits for `p` is woken when `f` sends it. Without other nodes nobody looks again by himself.
template <class F>
void expect_wakes(void* p, const F& f) {
    alarm(60);
    std::atomic<pid_t> thread{0};
    std::thread receiver([&] {
        thread = gettid();
        Received received;
        EXPECT_EQ(share_receive({}, -1, received), 0);
        EXPECT_EQ(received.object, p);
    });
    const Inbox& inbox = share_client(this_client.index).inbox;
    while (inbox.arrival_waiters.load() == 0 || !sleeps(thread)) sched_yield();
    f();
    receiver.join();
}

TEST(Messages, WhoSleepsIsWokenByASend) {
    in_sender([] {
        void* const p = block();
        expect_wakes(
            p, [p] { EXPECT_EQ(send(p, true), 0); });
    });
}

TEST(Messages, WhoSleepsIsWokenByTheFirstOfMany) {
    in_sender([] {
        const Parcel parcels[] = {{block(), BYTES}, {block(), BYTES}};
        expect_wakes(
            parcels[0].object,
            [&] { EXPECT_EQ(share_send_many(share_self(), parcels, 2, 0, {.drop = true}), 2); });
    });
}

TEST(Messages, ADescriptorThatNoThreadRaisesIsNone) {
    in_sender([] {
        refuse_call(__NR_clone, 0, CLONE_VM, EAGAIN);
        EXPECT_EQ(share_fd(), -EAGAIN);
        EXPECT_EQ(share_fd(), -EAGAIN);
    });
}

/// It is one's parent's, which the parent refers to.
TEST(Messages, ACopyThatAForkHasMadeIsNotTheObject) {
    in_sender([] {
        void* const p = block();
        ASSERT_EQ(share_reference(p, BYTES), 0);
        const usize references = share_query(p, true).references;
        ASSERT_EQ(fork_prepare(), 0);
        const pid_t child = fork();
        if (child == 0) {
            fork_child();
            EXPECT_EQ(share_attach("child"), 0);
            EXPECT_EQ(share_drop(p), Dropped::no_export);
            _exit(::testing::Test::HasFailure() ? 1 : 0);
        }
        fork_parent();
        EXPECT_EQ(wait_for(child), 0);
        EXPECT_EQ(share_query(p, true).references, references);
        share_drop(p);
    });
}

// ---- the tables of records

TEST(Records, OneTableThatIsFullDoesNotStopTheOther) {
    in_sender([] {
        auto& exports = sharing().exports_present;
        const u32 were = exports.load(), holders = sharing().holders_present.load();
        exports.put(MAX_EXPORTS);
        EXPECT_TRUE(add_records());
        EXPECT_GT(sharing().holders_present.load(), holders);
        exports.put(were);
    });
}

TEST(Records, NoneAreThereForWhichThereIsNoMemory) {
    in_sender([] {
        const u32 exports = sharing().exports_present.load();
        const u32 holders = sharing().holders_present.load();
        refuse_call(__NR_madvise, 2, MADV_POPULATE_WRITE, ENOMEM);
        EXPECT_FALSE(add_records());
        EXPECT_EQ(sharing().exports_present.load(), exports);
        EXPECT_EQ(sharing().holders_present.load(), holders);
    });
}

}  // namespace
}  // namespace aep::test
