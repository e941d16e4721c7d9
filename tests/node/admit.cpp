// Purpose: who is let in as a client and who is not, what a client gets, and what its locks say.
// Who calls it: ctest.
// Crash rule: in children.
#include "node/file_lock.hpp"
#include "tests/node/fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep {
namespace {

using namespace test;

/// Runs `body` with a fresh host in a child.
template <class Body>
void with_host(Body body, const std::function<void(NodeOptions&)>& change = nullptr) {
    const Directory directory;
    in_child([&] {
        NodeOptions options = options_in(directory);
        if (change) change(options);
        Host host(options);
        body(host);
    });
}

TEST(Admit, AClientGetsWhatItNeedsToWork) {
    with_host([](Host& host) {
        ClientProcess process([](Client& client) {
            must(client.fill(100, 64) == 100 * 1024, "fill");
            must(client.large(200) != 0, "large");
        });
        const u32 client = process.attach_and_wait(host);
        EXPECT_EQ(client, 1u);
        EXPECT_EQ(client_at(client).state.load(), static_cast<u32>(ClientState::live));
        EXPECT_EQ(client_at(client).pid, static_cast<u32>(process.pid()));
        EXPECT_STREQ(client_at(client).name, "tester");
        EXPECT_GE(client_at(client).chunks.load(), 5u);
        EXPECT_EQ(all_of(host.check()), "");
        process.kill_it();
        EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
        expect_all_back(host);
    });
}

TEST(Admit, WhatDoesNotFitIsRefusedWithAReason) {
    with_host([](Host& host) {
        struct Case {
            std::function<void(AskMessage&)> change;
            u32 error;
            const char* word;
        };
        const Case cases[] = {
            {[](AskMessage& a) { a.magic ^= 1; }, EPROTO, "does not begin"},
            {[](AskMessage& a) { a.version = 99; }, EPROTO, "protocol version 99"},
            {[](AskMessage& a) { a.layout_hash ^= 1; }, EPROTO, "layout hash"},
            {[](AskMessage& a) { a.image_hash ^= 1; }, EPROTO, "image hash"},
        };
        for (const Case& c : cases) {
            AskMessage ask = good_ask();
            c.change(ask);
            const Admission refused = host.admit(getpid(), geteuid(), ask);
            EXPECT_EQ(refused.answer.error, c.error);
            EXPECT_NE(std::string(refused.answer.text).find(c.word), std::string::npos)
                << refused.answer.text;
            EXPECT_FALSE(refused.fds[FD_LIFE]);
        }
        const Admission foreign = host.admit(getpid(), geteuid() + 1, good_ask());
        EXPECT_EQ(foreign.answer.error, static_cast<u32>(EPERM));
        EXPECT_NE(std::string(foreign.answer.text).find("user"), std::string::npos);
        EXPECT_EQ(context().attached.load(), 0u);
    });
}

TEST(Admit, AFullTableIsSaidAndADeadClientMakesRoom) {
    with_host([](Host& host) {
        std::vector<std::unique_ptr<ClientProcess>> processes;
        for (int i = 0; i < 8; ++i) {
            processes.push_back(std::make_unique<ClientProcess>());
            processes.back()->attach_and_wait(host);
        }
        ClientProcess late;
        const AnswerMessage answer = late.attach(host);
        EXPECT_EQ(answer.error, static_cast<u32>(EAGAIN));
        EXPECT_NE(std::string(answer.text).find("all 8"), std::string::npos) << answer.text;
        processes[4]->kill_it();
        // Nobody has swept: the next one in does.
        EXPECT_EQ(late.attach_and_wait(host), 5u);
    });
}

TEST(Admit, LimitsHold) {
    with_host(
        [](Host& host) {
            const auto claim = [](u32 count, bool good) {
                return [=](Client& client) {
                    must((client.claim(count) != raw(NO_CHUNK)) == good, "claim");
                };
            };
            ClientProcess greedy(claim(3, false)), modest(claim(2, true)), second(claim(2, true)),
                third(claim(1, false));
            greedy.attach_and_wait(host);
            modest.attach_and_wait(host);
            second.attach_and_wait(host);
            third.attach_and_wait(host);
        },
        [](NodeOptions& options) {
            options.client_limit = 2 * CHUNK_SIZE;
            options.context_limit = 4 * CHUNK_SIZE;
        });
}

TEST(Admit, TheLifeLockIsTheProcesssAndTheFrozenLockItsHeaps) {
    with_host([](Host& host) {
        const int fd = host.watched().context_fd;
        pid_t descendant = 0;
        int pids[2];
        ASSERT_EQ(pipe(pids), 0);
        // Not inherited: the life. Inherited, as by a fork with a frozen heap: a private mapping.
        ClientProcess process([&](Client& client) {
            client.fill(10, 64);
            const uptr at = reinterpret_cast<uptr>(&client.domain());
            madvise(reinterpret_cast<void*>(at), DOMAIN_STRIDE, MADV_DOFORK);
            const pid_t child = fork();
            if (child == 0) {
                prctl(PR_SET_PDEATHSIG, 0);
                close(3);
                for (;;) pause();
            }
            *reinterpret_cast<std::atomic<u32>*>(&client_at(client.index()).reserved2[0]) =
                static_cast<u32>(child);
        });
        const u32 client = process.attach_and_wait(host);
        descendant = static_cast<pid_t>(client_at(client).reserved2[0]);
        EXPECT_TRUE(somebody_locks(fd, CLIENT_LOCKS_OFFSET + client));
        EXPECT_FALSE(somebody_locks(fd, CLIENT_LOCKS_OFFSET + client + 1));
        EXPECT_EQ(host.recover(client).state, RecoveryState::alive);
        process.kill_it();
        EXPECT_FALSE(somebody_locks(fd, CLIENT_LOCKS_OFFSET + client));
        EXPECT_TRUE(somebody_locks(fd, FROZEN_LOCKS_OFFSET + client));
        EXPECT_EQ(host.recover(client).state, RecoveryState::frozen);
        EXPECT_EQ(client_at(client).state.load(), static_cast<u32>(ClientState::frozen));
        EXPECT_TRUE(host.sweep(0).busy);
        EXPECT_TRUE(host.somebody_lives());
        EXPECT_LT(free_chunks(host), host.pool().tables.chunk_count);
        const UniqueFd watch(static_cast<int>(syscall(SYS_pidfd_open, descendant, 0)));
        kill(descendant, SIGKILL);
        pollfd poll_fd{watch.get(), POLLIN, 0};
        poll(&poll_fd, 1, -1);
        EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
        expect_all_back(host);
    });
}

TEST(Admit, AChildWithAHeapOfItsOwnGetsNoDomain) {
    with_host([](Host& host) {
        AskMessage ask = good_ask();
        ask.private_heap = 1;
        const Admission admission = host.admit(getpid(), geteuid(), ask);
        ASSERT_EQ(admission.answer.error, 0u);
        EXPECT_EQ(client_at(admission.answer.client).private_heap.load(), 1u);
        const off_t domain = static_cast<off_t>(
            context_offset_of_meta(reinterpret_cast<uptr>(&domain_at(admission.answer.client))));
        const off_t data = lseek(host.watched().context_fd, domain, SEEK_DATA);
        EXPECT_TRUE(data < 0 || data >= domain + static_cast<off_t>(DOMAIN_STRIDE));
    });
}

/// What all execute nobody gets to write.
TEST(Admit, TheImageComesReadOnly) {
    with_host([](Host& host) {
        const Admission admission = host.admit(getpid(), geteuid(), good_ask());
        ASSERT_EQ(admission.answer.error, 0u);
        EXPECT_EQ(fcntl(admission.fds[FD_IMAGE].get(), F_GETFL) & O_ACCMODE, O_RDONLY);
        EXPECT_EQ(fcntl(admission.fds[FD_CONTEXT].get(), F_GETFL) & O_ACCMODE, O_RDWR);
    });
}

/// More often than the table has entries.
TEST(Admit, WhoCannotBeLetInForWantOfMemoryCostsNoEntry) {
    with_host([](Host& host) {
        refuse_call(__NR_madvise, 2, MADV_POPULATE_WRITE, ENOMEM);
        for (u32 i = 0; i < 2 * context().max_clients; ++i) {
            const Admission admission = host.admit(getpid(), geteuid(), good_ask());
            EXPECT_EQ(admission.answer.error, static_cast<u32>(ENOMEM)) << admission.answer.text;
            EXPECT_EQ(client_at(1).state.load(), static_cast<u32>(ClientState::free));
        }
        EXPECT_EQ(context().attached.load(), 0u);
        EXPECT_EQ(all_of(host.check()), "");
    });
}

TEST(Admit, GenerationsTellSuccessorsApart) {
    with_host([](Host& host) {
        for (u32 i = 1; i <= 3; ++i) {
            ClientProcess process;
            const AnswerMessage answer = process.attach(host);
            process.wait_ready();
            EXPECT_EQ(answer.client, 1u);
            EXPECT_EQ(answer.generation, i);
            process.kill_it();
            EXPECT_EQ(host.recover(1).state, RecoveryState::recovered);
        }
    });
}

}  // namespace
}  // namespace aep
