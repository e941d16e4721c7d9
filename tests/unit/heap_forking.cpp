// Purpose: tests the list of who takes part in a fork, and the process's locks: what a fork child and
//          a handler's jump leave of them.
// Who calls it: ctest (unit_heap).
// Crash rule: each test runs in a child of its own.
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include <thread>

#include "shim/backing/anonymous_backing.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/driver/forking.hpp"
#include "shim/driver/growth.hpp"
#include "shim/driver/process.hpp"
#include "shim/driver/purging.hpp"
#include "shim/driver/thread.hpp"
#include "shim/driver/transact.hpp"
#include "tests/unit/in_child.hpp"

// A sanitizer makes a key of its own before anything of ours can run.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define AEP_TEST_HOLDS_KEYS 1
namespace {
std::atomic<bool> hold_key_creation{false};
sem_t in_key_creation, key_creation_goes_on;
}  // namespace

// libc's own, and while a test wants that it does not return.
extern "C" int __pthread_key_create(pthread_key_t*, void (*)(void*));
extern "C" int pthread_key_create(pthread_key_t* key, void (*destructor)(void*)) {
    if (hold_key_creation.load()) {
        sem_post(&in_key_creation);
        while (sem_wait(&key_creation_goes_on) != 0) continue;
    }
    return __pthread_key_create(key, destructor);
}
#endif

namespace aep {
namespace {

using test::in_child;
using test::wait_for;

/// A test that hangs is ended.
constexpr unsigned MOST_SECONDS = 60;

/// Forks with the hooks around it, and runs `body` in the child. Its status; -1: refused.
template <class Body>
int forked(Body body) {
    if (fork_prepare() != 0) return -1;
    const pid_t child = fork();
    if (child == 0) {
        alarm(MOST_SECONDS);
        fork_child();
        body();
        _exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    fork_parent();
    return wait_for(child);
}

/// What was called, in order: a letter of each participant for before, parent, child.
char calls[16];
u32 call_count = 0;
int refusal = 0;
void note(char letter) { calls[call_count++] = letter; }

constexpr ForkParticipant FIRST = {[] { return note('b'), 0; }, [] { note('p'); },
                                   [] { note('c'); }};
constexpr ForkParticipant SECOND = {[] { return note('B'), refusal; }, [] { note('P'); },
                                    [] { note('C'); }};

TEST(Forking, ParticipantsAreAskedFromAboveAndToldFromBelow) {
    in_child([] {
        ASSERT_NE(allocate(100), nullptr);
        take_part_in_forks(FIRST);
        take_part_in_forks(SECOND);
        take_part_in_forks(FIRST);  // once is enough
        EXPECT_EQ(forked([] { EXPECT_STREQ(calls, "BbcC"); }), 0);
        EXPECT_STREQ(calls, "BbpP");
    });
}

TEST(Forking, WhoRefusesEndsTheForkAndLeavesEverythingRunning) {
    in_child([] {
        void* block = allocate(100);
        take_part_in_forks(SECOND);
        take_part_in_forks(FIRST);
        refusal = EBUSY;
        EXPECT_EQ(fork_prepare(), EBUSY);
        EXPECT_STREQ(calls, "bBp") << "those asked before it are told";
        EXPECT_FALSE(start_lock.held() || growth_lock.held() || purge_lock.held());
        std::thread([&] { deallocate(block); }).join();
        EXPECT_TRUE(trim());
        refusal = 0;
        EXPECT_EQ(forked([] { deallocate(allocate(MiB)); }), 0);
    });
}

TEST(Forking, WhatWasFrozenForAForkThatFailsIsUndone) {
    in_child([] {
        static u32 undone = 0;
        static Backing full = *anonymous_backing();
        full.fork_prepare = [] { return false; };
        full.fork_parent = [] { ++undone; };
        process_configure(&full, {});
        ASSERT_NE(allocate(100), nullptr);
        EXPECT_EQ(fork_prepare(), ENOMEM);
        EXPECT_EQ(undone, 1u);
    });
}

TEST(Forking, AHandlerThatInterruptedTheHolderOfALockMayFork) {
    in_child([] {
        alarm(MOST_SECONDS);
        ASSERT_NE(allocate(100), nullptr);
        growth_lock.lock();
        EXPECT_EQ(forked([] { deallocate(allocate(100)); }), 0);
        EXPECT_TRUE(growth_lock.held()) << "whom it interrupted goes on";
        growth_lock.unlock();
    });
}

TEST(Forking, AHandlerThatInterruptedTheStartMayNotFork) {
    in_child([] {
        start_lock.lock();
        EXPECT_EQ(fork_prepare(), EAGAIN);
        start_lock.unlock();
        EXPECT_EQ(forked([] { deallocate(allocate(100)); }), 0);
    });
}

/// Runs `body` in the child of a fork that begins while another thread has a heap and its blocks.
template <class Body>
void forked_beside(const Body& body) {
    in_child([&] {
        alarm(MOST_SECONDS);
        ASSERT_NE(allocate(100), nullptr);
        std::atomic<bool> there{false}, over{false};
        std::thread other([&] {
            void* const p = allocate(100);
            there = true;
            while (!over) sched_yield();
            deallocate(p);
        });
        while (!there) sched_yield();
        EXPECT_EQ(forked(body), 0);
        over = true;
        other.join();
    });
}

TEST(Forking, HeapsOfThreadsThatAChildDoesNotHaveAreAbandonedThere) {
    forked_beside([] {
        Domain& dom = domain();
        ASSERT_EQ(dom.heaps_used.load(), 2u);
        for (u32 n = 1; n <= dom.heaps_used; ++n) {
            const Heap* const h = heap_at(dom, n);
            EXPECT_EQ(h->state.load(),
                      h == current_heap() ? HeapState::live : HeapState::abandoned);
        }
    });
}

TEST(Forking, AChildHasSharedHeapsOfItsOwn) {
    in_child([] {
        ASSERT_NE(allocate(100), nullptr);
        {
            const ProcessLockScope scope(shared_heap_lock);
            ASSERT_NE(shared_heap(), nullptr);
        }
        EXPECT_EQ(forked([] {
                      const ProcessLockScope scope(shared_heap_lock);
                      const Heap* const h = shared_heap();
                      ASSERT_NE(h, nullptr);
                      EXPECT_EQ(h->state.load(), HeapState::live);
                  }),
                  0);
    });
}

/// A fork that begins while another thread is in an operation of its heap, or of none, waits for it.
void expect_fork_waits(bool with_heap) {
    in_child([with_heap] {
        alarm(MOST_SECONDS);
        ASSERT_NE(allocate(100), nullptr);
        Heap* const forker = current_heap();
        std::atomic<bool> inside{false}, closed{false}, done{false};
        std::thread other([&] {
            deallocate(allocate(100));
            const detail::Turn turn(with_heap ? current_heap() : nullptr);
            inside = true;
            const auto gate_is_open = [&] {
                return static_cast<bool>(detail::VisitorsTurn(forker));
            };
            while (!closed && gate_is_open()) sched_yield();
            // Time for a fork that would not wait.
            for (int i = 0; i < 20; ++i) sched_yield();
            done = true;
        });
        while (!inside) sched_yield();
        close_gate(forker);
        closed = true;
        EXPECT_TRUE(done) << "the child would find its heap in the middle of a change";
        open_gate();
        other.join();
    });
}

TEST(Forking, WaitsForAThreadInAnOperationOfItsHeap) { expect_fork_waits(true); }

TEST(Forking, WaitsForAThreadInAnOperationOfNoHeap) { expect_fork_waits(false); }

#if defined(AEP_TEST_HOLDS_KEYS)
TEST(Forking, AChildOfAForkDuringAThreadsFirstRequestCanHaveThreads) {
    in_child([] {
        ASSERT_EQ(sem_init(&in_key_creation, 0, 0), 0);
        ASSERT_EQ(sem_init(&key_creation_goes_on, 0, 0), 0);
        hold_key_creation = true;
        std::thread first([] { deallocate(allocate(100)); });
        while (sem_wait(&in_key_creation) != 0) continue;  // it holds the lock of the key
        EXPECT_EQ(forked([] {
                      hold_key_creation = false;
                      deallocate(allocate(100));
                  }),
                  0);
        hold_key_creation = false;
        sem_post(&key_creation_goes_on);
        first.join();
    });
}
#endif

TEST(Forking, AChildFindsAllLocksFree) {
    in_child([] {
        static ProcessLock held{LockName::daemon};
        static ProcessLock never_taken{LockName::spare_slot};
        ASSERT_NE(allocate(100), nullptr);
        std::thread([] { held.lock(); }).join();
        EXPECT_FALSE(held.try_lock());
        EXPECT_EQ(forked([] {
                      EXPECT_TRUE(held.try_lock());
                      EXPECT_TRUE(never_taken.try_lock());
                      EXPECT_TRUE(growth_lock.try_lock());
                  }),
                  0);
        EXPECT_FALSE(held.try_lock());
    });
}

TEST(ProcessLocks, AJumpGivesBackWhatTheThreadHeldAndNothingElse) {
    in_child([] {
        static ProcessLock own{LockName::daemon};
        static ProcessLock others{LockName::spare_slot};
        std::thread([] { others.lock(); }).join();
        own.lock();
        EXPECT_TRUE(own.held() && own.wanted());
        EXPECT_FALSE(others.held() || others.wanted());
        release_held_locks();
        EXPECT_FALSE(own.held() || own.wanted());
        EXPECT_TRUE(own.try_lock());
        EXPECT_FALSE(others.try_lock());
        EXPECT_FALSE(others.wanted());
        own.unlock();
    });
}

}  // namespace
}  // namespace aep
