// Purpose: what dead clients held comes back, whole and clean, wherever they were; what cannot be
//          completed poisons the context and says so.
// Who calls it: ctest.
// Crash rule: in children.
#include "dsm-core/sharing/records.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "tests/node/fixture.hpp"

namespace aep {
namespace {

using namespace test;

template <class Body>
void with_host(Body body, u64 pool_bytes = 64 * MiB, Completion& completion = no_completion) {
    const Directory directory;
    in_child([&] {
        Host host(options_in(directory, pool_bytes), completion);
        body(host);
    });
}

TEST(Recover, ALivingClientKeepsWhatItHas) {
    with_host([](Host& host) {
        ClientProcess process([](Client& client) { client.fill(10, 64); });
        const u32 client = process.attach_and_wait(host);
        EXPECT_EQ(host.recover(client).state, RecoveryState::alive);
        EXPECT_EQ(host.sweep(0).recovered, 0u);
        EXPECT_EQ(host.recover(7).state, RecoveryState::none);
    });
}

TEST(Recover, EveryKindOfMemoryComesBackClean) {
    with_host([](Host& host) {
        ClientProcess neighbour([](Client& client) { client.fill(40, 48); });
        neighbour.attach_and_wait(host);
        ClientProcess process([](Client& client) {
            client.fill(10, 16);
            client.mark_remote(5);  // by a thread that was killed before it told the owner
            client.fill(3, 30000);
            client.large(10);
            client.large(150);  // over several chunks
            client.claim(1);    // never used
        });
        const u32 client = process.attach_and_wait(host);
        process.kill_it();
        const Recovery recovery = host.recover(client);
        EXPECT_EQ(recovery.state, RecoveryState::recovered);
        EXPECT_GE(recovery.chunks, 5u);
        EXPECT_EQ(context().chunks_cached.load(), recovery.chunks);
        EXPECT_EQ(all_of(host.check()), "");  // looks at the metadata of every cached chunk
        EXPECT_EQ(host.broken_domains(), 0u) << said;
        EXPECT_EQ(context().recovered.load(), 1u);
        EXPECT_EQ(context().recovered_chunks.load(), recovery.chunks);
        // The next client works in them.
        ClientProcess next([](Client& c) { must(c.fill(200, 64) == 200 * 1024, "fill"); });
        next.attach_and_wait(host);
        EXPECT_EQ(all_of(host.check()), "");
        next.kill_it();
        neighbour.kill_it();
        expect_all_back(host);
    });
}

/// An object that another client has got goes on to be its, and its chunk stays with it.
TEST(Recover, WhatItSharedIsItsReceivers) {
    with_host([](Host& host) {
        perform(Caller{1, 1}, op::AddRecords{.exports = 100, .holders = 100});
        ClientProcess reader(
            [](Client& client) { must(client.ask(op::Open{}).status == Status::ok, "open"); });
        const u32 receiver = reader.attach_and_wait(host);
        ClientProcess process([&](Client& client) {
            client.slot_entry().tid.store(static_cast<u32>(getpid()));
            must(client.ask(op::Open{}).status == Status::ok, "open");
            const u64 object = chunk_address(ChunkIndex{client.claim(1)});
            const op::Send send{.object = object, .to = id_of(receiver), .bytes = 64};
            must(client.ask(send).status == Status::ok, "send");
        });
        const u32 client = process.attach_and_wait(host);
        u32 slot = 0, chunk = 0;
        while (SlotOwner{slot_at(slot).owner.load()}.client() != client) ++slot;
        while (chunk_owner(chunk).load() != client) ++chunk;
        process.kill_it();
        EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
        EXPECT_EQ(share_client(client).inbox.open, 0u);
        EXPECT_EQ(count_shares().holders, 0u) << "the message alone refers to it";
        EXPECT_EQ(chunk_owner(chunk).load(), OWNER_KEPT);
        EXPECT_EQ(slot_at(slot).owner.load(), 0u);
        EXPECT_EQ(slot_at(slot).tid.load(), 0u);
        EXPECT_EQ(all_of(host.check()), "");
        reader.kill_it();
        EXPECT_EQ(host.recover(receiver).state, RecoveryState::recovered);
        EXPECT_EQ(count_shares().exports, 0u);
        expect_all_back(host);
    });
}

/// Clients that work without end are killed in the middle. Here nobody completes operations: the
/// context is sound or says which one was left open.
TEST(Recover, KilledAnywhereItIsSoundOrSaysWhatWasOpen) {
    u32 sound = 0;
    for (int round = 0; round < 30; ++round) {
        int ends[2];
        ASSERT_EQ(pipe(ends), 0);
        with_host([&](Host& host) {
            ClientProcess process([](Client& client) {
                for (u32 i = 0;; ++i) {
                    if (i == 20) must(send(3, "r", 1, 0) == 1, "ready");
                    if (client.fill_page(class_of(16 + i * 40 % 2000)) == 0) break;
                    if (i % 7 == 0) client.large(1 + i % 30);
                }
            });
            const u32 client = process.attach_and_wait(host);
            // Not a wait for anything: another instruction to die at in each round.
            usleep(static_cast<useconds_t>(round * 150));
            process.kill_it();
            EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
            char outcome = 's';
            if (host.poisoned()) {
                outcome = 'p';
                EXPECT_NE(host.poison_text().find("tester"), std::string::npos);
                EXPECT_EQ(host.check().size(), 1u) << all_of(host.check());
            } else {
                EXPECT_EQ(all_of(host.check()), "");
                EXPECT_EQ(host.broken_domains(), 0u) << said;
                expect_all_back(host);
            }
            EXPECT_EQ(write(ends[1], &outcome, 1), 1);
        });
        char outcome = '?';
        close(ends[1]);
        EXPECT_EQ(read(ends[0], &outcome, 1), 1);
        close(ends[0]);
        sound += outcome == 's';
    }
    EXPECT_GT(sound, 0u);
}

TEST(Recover, WhatNobodyCanCompletePoisonsTheContextWithNames) {
    with_host([](Host& host) {
        ClientProcess neighbour([](Client& client) { client.fill(4, 64); });
        neighbour.attach_and_wait(host);
        ClientProcess process([](Client& client) {
            client.fill(20, 64);
            client.pretend_inside(number_of<op::TakeRun>());
        });
        const u32 client = process.attach_and_wait(host);
        process.kill_it();
        EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
        EXPECT_TRUE(host.poisoned());
        const std::string text = host.poison_text();
        EXPECT_NE(text.find("operation take_run"), std::string::npos) << text;
        EXPECT_NE(text.find("tester"), std::string::npos) << text;
        EXPECT_NE(text.find(std::to_string(process.pid())), std::string::npos) << text;
        EXPECT_NE(text.find("slot 1"), std::string::npos) << text;
        ClientProcess late;
        const AnswerMessage answer = late.attach(host);
        EXPECT_EQ(answer.error, static_cast<u32>(ENOTRECOVERABLE));
        EXPECT_NE(std::string(answer.text).find(text), std::string::npos) << answer.text;
        // The dead one's memory is back all the same; the only finding is the poison.
        EXPECT_EQ(host.check().size(), 1u) << all_of(host.check());
        neighbour.kill_it();
        host.sweep(0);
        host.return_cached(0, true);
        EXPECT_EQ(free_chunks(host), host.pool().tables.chunk_count);
    });
}

/// Answers as it is told.
class Scripted final : public Completion {
  public:
    SlotOutcome outcome = SlotOutcome::pending;
    std::vector<u32> asked;
    SlotOutcome complete(u32 slot) override {
        asked.push_back(slot);
        if (outcome == SlotOutcome::completed) slot_at(slot).sequence.fetch_add(1);
        return outcome;
    }
    SlotOutcome begin_operation(u32) override { return outcome; }
    bool performs_here() const override { return false; }
};

TEST(Recover, ACompletionThatTakesItsTimeIsWaitedFor) {
    Scripted completion;
    with_host(
        [&](Host& host) {
            ClientProcess process([](Client& client) {
                client.fill(20, 64);
                client.pretend_inside(number_of<op::TakeRun>());
            });
            const u32 client = process.attach_and_wait(host);
            process.kill_it();
            EXPECT_EQ(host.recover(client).state, RecoveryState::waiting);
            EXPECT_TRUE(host.sweep(0).busy);
            EXPECT_EQ(completion.asked, (std::vector<u32>{0, 0}));
            EXPECT_NE(slot_at(0).owner.load(), 0u);
            completion.outcome = SlotOutcome::completed;
            EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
            EXPECT_FALSE(host.poisoned());
            EXPECT_EQ(slot_at(0).owner.load(), 0u);
            expect_all_back(host);
        },
        64 * MiB, completion);
}

TEST(Recover, AThreadThatLeftItsOperationHasItCompletedOrPoisons) {
    Scripted completion;
    with_host(
        [&](Host& host) {
            ClientProcess process(
                [](Client& client) { client.pretend_inside(number_of<op::TakeRun>()); });
            process.attach_and_wait(host);
            AskMessage ask = good_ask(Ask::complete_slot);
            EXPECT_EQ(host.complete_slot(process.pid(), ask).error, static_cast<u32>(EINPROGRESS));
            EXPECT_EQ(host.complete_slot(getpid(), ask).error, static_cast<u32>(EPERM));
            ask.slot = 9999;
            EXPECT_EQ(host.complete_slot(process.pid(), ask).error, static_cast<u32>(EINVAL));
            ask.slot = 5;  // nobody's
            EXPECT_EQ(host.complete_slot(process.pid(), ask).error, static_cast<u32>(EPERM));
            ask.slot = 0;
            completion.outcome = SlotOutcome::completed;
            EXPECT_EQ(host.complete_slot(process.pid(), ask).error, 0u);
            EXPECT_EQ(host.complete_slot(process.pid(), ask).error, 0u);  // nothing is open
            slot_at(0).sequence.fetch_add(1);
            completion.outcome = SlotOutcome::no_capture;
            EXPECT_EQ(host.complete_slot(process.pid(), ask).error,
                      static_cast<u32>(ENOTRECOVERABLE));
            EXPECT_TRUE(host.poisoned());
        },
        64 * MiB, completion);
}

/// A claim that was cut off between its two words, and a return cut off between its.
TEST(Recover, ChunksOnTheirWayArePutWhereThePoolSaysTheyAre) {
    with_host([](Host& host) {
        ClientProcess process([](Client& client) { client.claim(2); });
        const u32 client = process.attach_and_wait(host);
        const PoolTables& pool = host.pool().tables;
        const Owner us = host.pool().owner;
        chunk_owner(5).store(client | OWNER_CLAIMING);  // not yet the pool's word
        chunk_owner(6).store(client | OWNER_CLAIMING);
        ASSERT_TRUE(claim_chunk(pool, us, 6));
        chunk_owner(7).store(client);  // free in the pool already
        process.kill_it();
        EXPECT_EQ(host.recover(client).chunks, 3u);
        EXPECT_EQ(chunk_owner(5).load(), OWNER_NOBODY);
        EXPECT_EQ(chunk_owner(6).load(), OWNER_CACHED);
        EXPECT_EQ(chunk_owner(7).load(), OWNER_NOBODY);
        expect_all_back(host);
    });
}

/// A small client that got them would have all of a huge page where it uses little of it.
TEST(Recover, HugePagesDoNotWaitInTheCache) {
    with_host([](Host& host) {
        ClientProcess process([](Client& client) {
            const u32 first = client.claim(2);
            chunk_desc(ChunkIndex{first})->coarse = 1;
        });
        const u32 client = process.attach_and_wait(host);
        u32 first = 0;
        while (chunk_owner(first).load() != client) ++first;
        process.kill_it();
        EXPECT_EQ(host.recover(client).chunks, 2u);
        EXPECT_EQ(chunk_owner(first).load(), OWNER_NOBODY);
        EXPECT_EQ(host.pool().tables.chunk(first).bits, FREE_CHUNK.bits);
        EXPECT_EQ(chunk_owner(first + 1).load(), OWNER_CACHED);
        EXPECT_EQ(context().chunks_cached.load(), 1u);
        EXPECT_LE(context().next_chunk.load(), first);  // the next client gets them
        EXPECT_EQ(all_of(host.check()), "");
        expect_all_back(host);
    });
}

TEST(Recover, ABrokenHeapIsSeenBeforeItIsThrownAway) {
    with_host([](Host& host) {
        ClientProcess process([](Client& client) {
            client.fill(5, 64);
            ++client.heap()->page_count;
        });
        const u32 client = process.attach_and_wait(host);
        process.kill_it();
        host.recover(client);
        EXPECT_EQ(host.broken_domains(), 1u);
        EXPECT_NE(said.find("its heap is broken"), std::string::npos);
        EXPECT_EQ(host.check().size(), 1u) << all_of(host.check());
    });
}

/// Of the operations by which the dead are taken back: when somebody dies there may be none left.
TEST(Recover, TheHostsStackHasItsMemoryFromTheBeginning) {
    with_host([](Host& host) {
        const int fd = host.watched().context_fd;
        const auto blocks = [fd] {
            struct stat st {};
            fstat(fd, &st);
            return st.st_blocks;
        };
        const auto make_present = [fd](u32 slot) {
            const uptr stack = stack_of_slot(slot) + STACK_BYTES - STACK_COMMITTED;
            const auto at = static_cast<off_t>(STACKS_OFFSET + (stack - STACKS_BASE));
            return fallocate(fd, 0, at, STACK_COMMITTED);
        };
        const auto before = blocks();
        ASSERT_EQ(make_present(host_slot()), 0);
        EXPECT_EQ(blocks(), before);
        ASSERT_EQ(make_present(0), 0);  // a client's has none before it is taken
        EXPECT_GT(blocks(), before);
    });
}

/// Prints the rate; see docs/design/context.md for what it should be about.
TEST(Recover, Rate) {
    const Directory directory;
    in_child([&] {
        NodeOptions options = options_in(directory, 3 * GiB);
        options.verify = false;
        Host host(options);
        for (int round = 0; round < 3; ++round) {
            ClientProcess process([](Client& client) { client.fill(32768, 64); });
            const u32 client = process.attach_and_wait(host);
            process.kill_it();
            const Recovery recovery = host.recover(client);
            EXPECT_EQ(recovery.chunks, 512u);
            std::printf("recovered %u chunks of 64-byte objects in %.2f ms: %.0f M objects/s\n",
                        recovery.chunks, static_cast<double>(recovery.ns) / 1e6,
                        32768.0 * 1024 * 1e3 / static_cast<double>(recovery.ns));
        }
        EXPECT_EQ(all_of(host.check()), "");
    });
}

}  // namespace
}  // namespace aep
