// Purpose: whoever sleeps for a message is woken although the sender died before it could do that.
// Who calls it: ctest.
// Crash rule: in children.
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "tests/node/sharing_tables.hpp"
#include "tests/undo/deaths.hpp"

namespace aep {
namespace {

using namespace test;

/// A thread that sleeps on a client's word of arrivals, as one that waits for a message.
class Sleeper {
  public:
    explicit Sleeper(u32 client) : words_(words_of(client, Sleep::arrivals)) {
        words_.waiters.store(1);
        thread_ = std::thread([this] {
            const u32 seen = words_.sequence.load();
            tid_.store(static_cast<pid_t>(syscall(SYS_gettid)));
            const detail::Timespec end{60, 0};
            detail::futex(&words_.sequence, detail::FUTEX_WAIT, seen, &end);
            awake_.store(true);
        });
        while (!sleeps()) std::this_thread::yield();
    }
    /// Whether it is awake, or will be without being woken by anybody else.
    bool is_awake() {
        // On its way to sleep it waits for other things, too, and finds then that the word has changed.
        for (int i = 0; i < 10'000 && !awake_.load(); ++i) std::this_thread::yield();
        return !sleeps();
    }
    ~Sleeper() {
        detail::futex(&words_.sequence, detail::FUTEX_WAKE, 1);
        thread_.join();
        words_.waiters.store(0);
    }

  private:
    bool sleeps() const {
        const pid_t tid = tid_.load();
        if (tid == 0 || awake_.load()) return false;
        std::ifstream file("/proc/self/task/" + std::to_string(tid) + "/syscall");
        std::string number;
        return file >> number && number == std::to_string(SYS_futex);
    }

    SleepWords words_;
    std::atomic<pid_t> tid_ = 0;
    std::atomic<bool> awake_ = false;
    std::thread thread_;
};

TEST(Undo, WhoSleepsIsWokenByWhoeverRecovers) {
    with_tables([](Host&) {
        const auto claimed = perform(1, op::ClaimChunks{.count = 1});
        const u64 object = chunk_address(claimed.first);
        client_at(1).generation = client_at(2).generation = 1;
        perform(Caller{1, 1}, op::Open{});
        perform(Caller{2, 2}, op::Open{});
        const op::Send request{.object = object, .to = id_of(2, 1), .bytes = 64};
        Stores& s = stores;
        const auto send = [&] { perform(Caller{1, 1}, request); };
        u32 woken = 0;
        bool ended = false;
        for (u64 at = 1; !ended; ++at) {
            const usize begin = s.mark();
            Sleeper sleeper(2);
            ended = s.run(send, at);
            s.run([] { recover_slots(1); });
            if (share_client(2).inbox.messages == 1) {
                EXPECT_TRUE(sleeper.is_awake()) << "dead at store " << at;
                ++woken;
            }
            s.take_back(begin);
        }
        EXPECT_GT(woken, 3u);
    });
}

/// Who comes or goes and dies over it: whatever becomes of that, who watches for peers is awake before anybody can see it.
TEST(Undo, WhoWatchesForPeersIsWokenBeforeTheyHaveComeOrGone) {
    with_tables([](Host&) {
        client_at(1).generation = client_at(2).generation = 1;
        perform(Caller{2, 2}, op::Open{});
        ASSERT_EQ(perform(Caller{2, 2}, op::Watch{.peers = true}).status, Status::ok);
        const auto comes = [] { perform(Caller{1, 1}, op::Open{}); };
        const auto goes = [] { perform(Caller{1, 1}, op::CloseInbox{1}); };
        Stores& s = stores;
        for (const bool here : {false, true}) {
            u32 woken = 0;
            bool ended = false;
            for (u64 at = 1; !ended; ++at) {
                const usize begin = s.mark();
                Sleeper sleeper(2);
                ended = here ? s.run(goes, at) : s.run(comes, at);
                s.run([] { recover_slots(1); });
                if (attendance_of(1).stays % 2 != (here ? 1 : 0)) {
                    EXPECT_TRUE(sleeper.is_awake()) << "dead at store " << at;
                    ++woken;
                }
                s.take_back(begin);
            }
            EXPECT_GT(woken, 1u);
            if (!here) s.run(comes);
        }
    });
}

/// Whoever watches by a descriptor looks without the lock (share_fd.cpp): it says that it sleeps, then looks for news. So the
/// news have to be there before a sender looks who sleeps. Nobody else costs a send that.
TEST(Undo, WhatAWatcherIsToldComesBeforeTheLookWhoSleeps) {
    with_tables([](Host&) {
        const u64 object = chunk_address(perform(1, op::ClaimChunks{.count = 1}).first);
        client_at(1).generation = client_at(2).generation = 1;
        perform(Caller{1, 1}, op::Open{});
        perform(Caller{2, 2}, op::Open{});
        const SleepWords words = words_of(2, Sleep::arrivals);
        const auto fences_between = [&] {
            u64 told = 0, looked = 0;
            const auto see = [&](uptr at, u32, bool store) {
                if (store && at == reinterpret_cast<uptr>(&words.sequence))
                    told = stores.full_fences;
                if (!store && at == reinterpret_cast<uptr>(&words.waiters))
                    looked = stores.full_fences;
            };
            stores.watch(
                [&] {
                    perform(Caller{1, 1},
                            op::Send{.object = object, .to = id_of(2, 1), .bytes = 64});
                },
                see);
            return looked - told;
        };
        EXPECT_EQ(fences_between(), 0u);
        ASSERT_EQ(perform(Caller{2, 2}, op::Watch{}).status, Status::ok);
        EXPECT_EQ(fences_between(), 1u);
        EXPECT_EQ(share_client(2).inbox.messages, 2u);
    });
}

}  // namespace
}  // namespace aep
