// Purpose: the client side as threads of one process that is a client of a context: its slots, the spare one for threads
//          without, what it sends, receives and waits for, its descriptor; other clients are threads, too.
// Who calls it: ctest, under ThreadSanitizer and AddressSanitizer.
// Crash rule: a child each: what a process knows of itself as a client it has once.
#include <poll.h>
#include <sys/mman.h>

#include <barrier>
#include <thread>

#include "shim/backing/anonymous_backing.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/context/client.hpp"
#include "shim/context/door.hpp"
#include "shim/driver/process.hpp"
#include "shim/sharing/share_fd.hpp"
#include "shim/sharing/sharing.hpp"
#include "tests/hosted/actor.hpp"
#include "tests/unit/in_child.hpp"

namespace aep::test {
namespace {

constexpr u32 OURS = 1, THEIRS = 2;
constexpr u32 SLOTS = 8;
constexpr u32 CHUNKS = 16;  // of which the process maps the address

/// Client OURS, as joining would have made it (shim/context/join.cpp), but for the mappings.
void become_client() {
    // To the end of the process: the thread behind a descriptor looks at it until then.
    static const World world({.clients = 2, .slots = SLOTS});
    void* heap = reinterpret_cast<void*>(HEAP_BASE);
    ASSERT_EQ(mmap(heap, CHUNKS * CHUNK_SIZE, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0),
              heap);
    static u8 views[CHUNKS] = {};
    pool.here = views;
    pool.tables.chunk_count = CHUNKS;
    process_configure(anonymous_backing(), {});
    client_at(OURS).state = static_cast<u32>(ClientState::live);
    client_at(OURS).generation = 1;
    this_client.index = OURS;
    this_client.generation = 1;
    this_client.joined = this_client.attached = true;
    ASSERT_TRUE(reserve_spare_slot());
    ASSERT_EQ(share_attach("ours"), 0);
}

/// Slots that are somebody's.
u32 slots_taken() {
    u32 taken = 0;
    for (u32 i = 0; i < host_slot(); ++i) taken += slot_at(i).owner.load() != 0;
    return taken;
}

/// An object of client `client`, which keeps a reference to it, and so its memory.
u64 make_object(Hosted& client, u64 bytes) {
    const auto run = client.ask(op::ClaimChunks{.count = 1});
    EXPECT_EQ(run.status, Status::ok);
    const u64 object = chunk_address(run.first) + 4096;
    EXPECT_EQ(client.ask(op::Reference{object, bytes}).status, Status::ok);
    return object;
}
u64 make_own_object(u64 bytes) {
    const auto run = perform_in_image(op::ClaimChunks{.count = 1});
    EXPECT_EQ(run.status, Status::ok);
    const u64 object = chunk_address(run.first) + 4096;
    EXPECT_EQ(share_reference(reinterpret_cast<void*>(object), bytes), 0);
    return object;
}

TEST(HostedClient, SlotsAreOneThreadsAtATime) {
    in_child([] {
        become_client();
        constexpr u32 THREADS = 12;  // more than there are slots: some use the spare one
        std::atomic<u32> user[SLOTS] = {};
        std::atomic<u64> without{0};
        std::barrier together(THREADS);
        std::vector<std::thread> threads;
        for (u32 i = 1; i <= THREADS; ++i) {
            threads.emplace_back([&, i] {
                for (int turn = 0; turn < 2000 / SLOWNESS; ++turn) {
                    take_thread_slot();
                    if (thread_slot != nullptr)
                        EXPECT_EQ(user[index_of(*thread_slot)].exchange(i), 0u);
                    else
                        ++without;
                    if (turn == 0) together.arrive_and_wait();
                    // One that exists, one that does not, and one of sharing.
                    EXPECT_EQ(perform_in_image(op::ReturnChunk{ChunkIndex{3}, false}).status,
                              Status::miss);
                    EXPECT_EQ(perform_in_image(op::Leave{}, 0x4711).status, Status::no_such_op);
                    EXPECT_EQ(perform_in_image(op::Query{HEAP_BASE + i}).status, Status::miss);
                    EXPECT_FALSE(inside_image());
                    if (thread_slot != nullptr) user[index_of(*thread_slot)] = 0;
                    give_thread_slot();
                    EXPECT_EQ(thread_slot, nullptr);
                }
            });
        }
        for (std::thread& t : threads) t.join();
        EXPECT_GT(without.load(), 0u);
        EXPECT_EQ(client_at(OURS).slots.load(), 1u);  // the spare one
        EXPECT_LE(slots_taken(), SLOTS);
        u64 operations = 0;
        for (u32 i = 0; i < SLOTS; ++i) {
            EXPECT_EQ(slot_at(i).sequence.load() % 2, 0u);
            operations += slot_at(i).operations;
        }
        EXPECT_GE(operations, u64{THREADS} * 3 * (2000 / SLOWNESS));
        EXPECT_EQ(walk(), "");
    });
}

/// Threads of the process send to a client and receive from it, by calls that wait, by the descriptor, and at once.
TEST(HostedClient, EveryMessageIsReceivedOnce) {
    in_child([] {
        become_client();
        constexpr u64 EACH_WAY = 20'000 / SLOWNESS;
        const u64 ours = make_own_object(64);
        std::atomic<u64> theirs{0}, arrived{0}, sent{0};
        std::atomic<bool> over{false};
        std::thread peer([&] {
            Hosted self(THEIRS);
            EXPECT_EQ(self.open("theirs"), Status::ok);
            theirs = make_object(self, 128);
            u64 came = 0, went = 0;
            while (came < EACH_WAY || went < EACH_WAY) {
                if (went < EACH_WAY &&
                    self.ask(op::Send{theirs, id_of(OURS, 1), 128}).status == Status::ok)
                    ++went;
                const auto said = self.ask(op::Receive{});
                if (said.status != Status::ok) continue;
                EXPECT_EQ(said.object, ours);
                EXPECT_EQ(self.ask(op::Drop{ours}).status, Status::ok);
                ++came;
            }
            while (!over) std::this_thread::yield();
            self.die();
        });
        while (theirs == 0) std::this_thread::yield();
        const ShareId to = share_lookup("theirs");
        EXPECT_EQ(to.inbox(), THEIRS);
        const int fd = static_cast<int>(share_fd());
        EXPECT_GE(fd, 0);
        const auto take = [&](int timeout_ms) {
            Received received{};
            const long result = share_receive({}, timeout_ms, received);
            if (result != 0) return result;
            EXPECT_EQ(reinterpret_cast<u64>(received.object), theirs.load());
            EXPECT_EQ(received.bytes, 128u);
            ++arrived;
            EXPECT_EQ(share_drop(received.object), Dropped::kept);
            return result;
        };
        std::vector<std::thread> threads;
        for (int i = 0; i < 2; ++i) {  // waits in the call; the other one sends between
            threads.emplace_back([&, i] {
                take_thread_slot();
                while (arrived < EACH_WAY) {
                    const long result = take(i == 0 ? 20 : 0);
                    EXPECT_TRUE(result == 0 || result == -EAGAIN || result == -ETIMEDOUT) << result;
                    if (i == 1 && sent < EACH_WAY) {
                        if (share_send(to, reinterpret_cast<void*>(ours), 64, 1000) == 0) ++sent;
                        EXPECT_EQ(share_lookup("theirs").bits, to.bits);
                    }
                }
                give_thread_slot();
            });
        }
        threads.emplace_back([&] {  // by the descriptor, as an edge-triggered loop would
            while (arrived < EACH_WAY) {
                pollfd readable{fd, POLLIN, 0};
                if (poll(&readable, 1, 20) != 1) continue;
                while (take(0) == 0) {
                }
            }
        });
        for (std::thread& t : threads) t.join();
        while (sent < EACH_WAY)
            if (share_send(to, reinterpret_cast<void*>(ours), 64, 1000) == 0) ++sent;
        over = true;
        peer.join();
        EXPECT_EQ(arrived.load(), EACH_WAY);
        Received none{};
        EXPECT_EQ(share_receive({}, 0, none), -EAGAIN);
        EXPECT_EQ(share_query(reinterpret_cast<void*>(ours), true).references,
                  2u);  // the first made it an export
        EXPECT_EQ(share_query(reinterpret_cast<void*>(theirs.load()), true).references, 0u);
        EXPECT_EQ(walk(), "");
    });
}

/// One message at a time, each waited for without an end: a wake-up that is lost is a test that never ends.
TEST(HostedClient, NoWakeUpIsLost) {
    in_child([] {
        become_client();
        constexpr int ROUNDS = 3000 / SLOWNESS;
        const u64 ours = make_own_object(64);
        const int fd = static_cast<int>(share_fd());
        std::atomic<int> asked{0}, answered{0};
        std::thread peer([&] {
            Hosted self(THEIRS);
            EXPECT_EQ(self.open("theirs"), Status::ok);
            const u64 object = make_object(self, 128);
            std::mt19937 random(1);
            for (int round = 0; round < ROUNDS; ++round) {
                while (asked <= round) std::this_thread::yield();
                for (u32 pauses = static_cast<u32>(random() % 4000); pauses != 0; --pauses)
                    __builtin_ia32_pause();
                EXPECT_EQ(self.ask(op::Send{object, id_of(OURS, 1), 128}).status, Status::ok);
                while (answered <= round) std::this_thread::yield();
            }
            self.die();
        });
        for (int round = 0; round < ROUNDS; ++round) {
            ++asked;
            Received received{};
            long result = -EAGAIN;
            if (round % 2 == 1) result = share_receive({}, -1, received);
            while (result == -EAGAIN) {  // it may be readable for nothing
                pollfd readable{fd, POLLIN, 0};
                EXPECT_EQ(poll(&readable, 1, -1), 1);
                result = share_receive({}, 0, received);
            }
            EXPECT_EQ(result, 0);
            EXPECT_EQ(share_drop(received.object), Dropped::kept);
            EXPECT_EQ(share_receive({}, 0, received), -EAGAIN);  // and the descriptor is down
            ++answered;
        }
        peer.join();
        EXPECT_EQ(share_query(reinterpret_cast<void*>(ours), true).references,
                  2u);  // the first made it an export
        EXPECT_EQ(walk(), "");
    });
}

}  // namespace
}  // namespace aep::test
