// Purpose: a thread that dies alone in an operation, in a process that lives on, holds nothing for
//          ever: the lock of sharing is free again, what it did is undone, its process goes on.
// Who calls it: ctest.
// Crash rule: in children.
#include <thread>

#include "dsm-core/sharing/records.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "node/living_threads.hpp"
#include "node/process_facts.hpp"
#include "tests/node/fixture.hpp"

namespace aep {
namespace {

using namespace test;

u32 own_tid() { return static_cast<u32>(syscall(SYS_gettid)); }

/// As of a thread in the middle of a send: it has the lock, and a count is one too high.
void begin_send(Client& client, u32 op = number_of<op::Send>()) {
    client.slot_entry().tid.store(own_tid());
    client.pretend_half_way(op);
}

/// Runs `body` in a thread that then ends as none does that returns, and waits until it is gone.
template <class Body>
void in_thread_that_dies(Body body) {
    std::atomic<u32> tid{0};
    std::thread([&] {
        body();
        tid = own_tid();
        syscall(SYS_exit, 0);
    }).detach();
    while (tid == 0 || syscall(SYS_tgkill, getpid(), tid.load(), 0) == 0) sched_yield();
}

void expect_held(bool held) {
    EXPECT_EQ(share_client(0).lock.taken().holder() != SlotLock::NO_SLOT, held);
    EXPECT_EQ(count_shares().exports, held ? 1u : 0u);
}

void look_twice(Host& host, u64 from_ms) {
    host.sweep(from_ms);
    expect_held(true);  // it may be at work
    host.sweep(from_ms + 1000);
}

TEST(LoneDeaths, WhatTheyHoldIsFreeAgain) {
    with_host([&](Host& host) {
        host.set_provider(Provider::rollback);
        ClientProcess process(
            [](Client& client) { in_thread_that_dies([&] { begin_send(client); }); });
        const u32 client = process.attach_and_wait(host);
        look_twice(host, 0);
        expect_held(false);
        EXPECT_TRUE(contains(said, "died alone")) << said;
        EXPECT_EQ(context().undone.load(), 1u);
        EXPECT_EQ(client_at(client).state.load(), static_cast<u32>(ClientState::live));
        EXPECT_FALSE(host.poisoned());
        process.kill_it();
        expect_all_back(host);
    });
}

/// Its process's first thread is then a zombie as long as another one lives.
TEST(LoneDeaths, OfTheFirstThreadToo) {
    with_host([&](Host& host) {
        host.set_provider(Provider::rollback);
        ClientProcess process([](Client& client) {
            begin_send(client);
            std::thread([] {
                must(send(3, "r", 1, MSG_NOSIGNAL) == 1, "ready");
                for (;;) pause();
            }).detach();
            syscall(SYS_exit, 0);
        });
        process.attach_and_wait(host);
        while (state_of(process.pid()) != 'Z') sched_yield();
        look_twice(host, 0);
        expect_held(false);
        process.kill_it();
        expect_all_back(host);
    });
}

TEST(LoneDeaths, WhoLivesIsLeftAlone) {
    with_host([&](Host& host) {
        host.set_provider(Provider::rollback);
        ClientProcess process([](Client& client) {
            std::atomic<bool> ready{false};
            std::thread([&] {
                begin_send(client);
                ready = true;
                for (;;) pause();
            }).detach();
            while (!ready) sched_yield();
        });
        process.attach_and_wait(host);
        for (u64 ms = 0; ms < 5000; ms += 1000) {
            host.sweep(ms);
            expect_held(true);
        }
        ::kill(process.pid(), SIGSTOP);
        for (u64 ms = 5000; ms < 8000; ms += 1000) {
            host.sweep(ms);
            expect_held(true);
        }
        process.kill_it();
        host.sweep(9000);
        expect_held(false);
        expect_all_back(host);
    });
}

/// A process that shares the client's memory is in the operation: no thread of the client's, but
/// alive.
TEST(LoneDeaths, AProcessOfTheSameMemoryIsLeftAlone) {
    with_host([&](Host& host) {
        host.set_provider(Provider::rollback);
        ClientProcess process([](Client& client) {
            alignas(16) static char stack[64 * KiB];
            static std::atomic<bool> ready{false};
            const int child = clone(
                [](void* at) -> int {
                    begin_send(*static_cast<Client*>(at));
                    ready = true;
                    for (;;) pause();
                },
                stack + sizeof stack, CLONE_VM | SIGCHLD, &client);
            must(child > 0, "clone");
            while (!ready) sched_yield();
        });
        process.attach_and_wait(host);
        const pid_t child = static_cast<pid_t>(slot_at(0).tid.load());
        for (u64 ms = 0; ms < 3000; ms += 1000) {
            host.sweep(ms);
            expect_held(true);
        }
        ::kill(child, SIGKILL);
        wait_until_dead(child);
        host.sweep(4000);
        expect_held(false);
        process.kill_it();
        expect_all_back(host);
    });
}

/// Nobody can undo an operation of its heap, for which only its process waits.
TEST(LoneDeaths, AnOperationOfTheHeapStaysOpen) {
    with_host([&](Host& host) {
        host.set_provider(Provider::rollback);
        ClientProcess process([](Client& client) {
            in_thread_that_dies([&] {
                client.slot_entry().tid.store(own_tid());
                client.pretend_inside(number_of<op::Refill>());
            });
        });
        process.attach_and_wait(host);
        host.sweep(0);
        host.sweep(1000);
        EXPECT_TRUE(slot_at(0).sequence.load() % 2 != 0);
        EXPECT_FALSE(host.poisoned());
        process.kill_it();
        expect_all_back(host);
    });
}

/// A client writes into the lock whom it likes: who shares waits no longer than until the next
/// sweep.
TEST(LoneDeaths, ALockThatNamesWhoIsInNoOperationIsFreed) {
    with_host([&](Host& host) {
        host.set_provider(Provider::rollback);
        ClientProcess living;
        living.attach_and_wait(host);
        const u32 nowhere = context().max_slots + 5;
        for (const u32 named : {0u, 7u, host_slot(), nowhere}) {
            said.clear();
            share_client(0).lock.taken().lock(named);
            host.sweep(0);
            EXPECT_EQ(share_client(0).lock.taken().holder(), SlotLock::NO_SLOT) << named;
            EXPECT_TRUE(contains(said, "names slot " + std::to_string(named))) << said;
        }
        EXPECT_FALSE(host.poisoned());
        living.kill_it();
        expect_all_back(host);
    });
}

/// Over the name of one who is in the middle of it: what that has changed nobody can tell apart.
TEST(LoneDeaths, ALockThatIsTakenFromItsHolderIsPoison) {
    with_host([&](Host& host) {
        host.set_provider(Provider::rollback);
        ClientProcess holder([](Client& client) { begin_send(client); });
        holder.attach_and_wait(host);
        host.sweep(0);
        EXPECT_FALSE(host.poisoned());
        share_client(0).lock.taken().give_up();
        share_client(0).lock.taken().lock(7);
        host.sweep(0);
        EXPECT_TRUE(host.poisoned());
        EXPECT_TRUE(contains(said, "while somebody else held it")) << said;
    });
}

bool can_make_pid_namespaces() {
    return wait_for(start_child([] {
               if (unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) _exit(1);
           })) == 0;
}

/// Whether it is seen to be gone. Threads of others that start or end while they are listed may
/// have any number, so that one look may say no.
bool is_seen_gone(pid_t pid, u32 tid) {
    const u64 end = monotonic_ns() + 10'000'000'000;
    while (!LivingThreads().is_gone(pid, tid)) {
        if (monotonic_ns() > end) return false;
        sched_yield();
    }
    return true;
}

/// In a pid namespace of its own a process's threads have other numbers for themselves.
TEST(LoneDeaths, NumbersAreThoseOfItsOwnNamespace) {
    if (!can_make_pid_namespaces()) GTEST_SKIP() << "needs a pid namespace";
    in_child([] {
        struct Shared {
            std::atomic<u32> thread;
            std::atomic<bool> end;
        };
        void* const memory =
            mmap(nullptr, OS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ASSERT_NE(memory, MAP_FAILED);
        Shared& shared = *new (memory) Shared{};
        ASSERT_EQ(unshare(CLONE_NEWUSER | CLONE_NEWPID), 0);
        const pid_t first = start_child([&] {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            std::thread([&] {
                shared.thread = own_tid();
                while (!shared.end) sched_yield();
                syscall(SYS_exit, 0);
            }).detach();
            for (;;) pause();
        });
        while (shared.thread == 0) sched_yield();
        EXPECT_FALSE(LivingThreads().is_gone(first, 1));
        EXPECT_FALSE(LivingThreads().is_gone(first, shared.thread));
        EXPECT_TRUE(is_seen_gone(first, 77));
        shared.end = true;
        EXPECT_TRUE(is_seen_gone(first, shared.thread));
        kill(first, SIGKILL);
        wait_for(first);
        EXPECT_FALSE(LivingThreads().is_gone(first, shared.thread));  // nor is its process seen
    });
}

/// Its parent shares its memory, too, but has its numbers in the namespace further out.
TEST(LoneDeaths, NumbersAreNotThoseOfTheNamespaceFurtherOut) {
    if (!can_make_pid_namespaces()) GTEST_SKIP() << "needs a pid namespace";
    in_child([] {
        ASSERT_EQ(unshare(CLONE_NEWUSER | CLONE_NEWPID), 0);
        alignas(16) static char stack[64 * KiB];
        const pid_t first = clone(
            [](void*) -> int {
                for (;;) pause();
            },
            stack + sizeof stack, CLONE_VM | SIGCHLD, nullptr);
        ASSERT_GT(first, 0);
        EXPECT_FALSE(LivingThreads().is_gone(first, 1));
        EXPECT_TRUE(is_seen_gone(first, own_tid()));
        kill(first, SIGKILL);
        wait_for(first);
    });
}

}  // namespace
}  // namespace aep
