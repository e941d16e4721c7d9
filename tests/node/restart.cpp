// Purpose: a context outlives its daemons; what is no sound context of ours is refused with a
//          message that says what and where.
// Who calls it: ctest.
// Crash rule: in children.
#include <thread>

#include "node/file_lock.hpp"
#include "node/leftovers.hpp"
#include "node/process_facts.hpp"
#include "shim/backing/node_lock.hpp"
#include "tests/node/fixture.hpp"
#include "tests/unit/capabilities.hpp"

namespace aep {
namespace {

using namespace test;

/// The message of the NodeError that opening throws.
std::string refusal(const NodeOptions& options, int* error = nullptr) {
    try {
        Host host(options);
    } catch (const NodeError& e) {
        if (error != nullptr) *error = e.error();
        return e.what();
    }
    return "";
}

TEST(Restart, LivingClientsGoOnAndDeadOnesAreFound) {
    const Directory directory;
    in_child([&] {
        auto first = std::make_unique<Host>(options_in(directory));
        EXPECT_FALSE(first->reopened());
        ClientProcess living([](Client& client) { client.fill(20, 64); });
        ClientProcess dead([](Client& client) { client.fill(20, 64); });
        living.attach_and_wait(*first);
        const u32 gone = dead.attach_and_wait(*first);
        const Owner node = first->pool().owner;
        first.reset();
        dead.kill_it();  // while there is no host
        Host second(options_in(directory));
        EXPECT_TRUE(second.reopened());
        EXPECT_EQ(second.pool().owner.node, node.node);
        EXPECT_EQ(second.pool().owner.generation, node.generation);
        EXPECT_EQ(second.sweep(0).recovered, 1u);
        EXPECT_EQ(client_at(gone).state.load(), static_cast<u32>(ClientState::free));
        EXPECT_EQ(all_of(second.check()), "");
        ClientProcess late([](Client& client) { client.fill(20, 64); });
        EXPECT_EQ(late.attach_and_wait(second), gone);
        living.kill_it();
        late.kill_it();
        expect_all_back(second);
    });
}

TEST(Restart, TheNodeLivesWhileOneClientDoes) {
    const Directory directory;
    in_child([&] {
        auto host = std::make_unique<Host>(options_in(directory));
        ClientProcess process;
        process.attach_and_wait(*host);
        const u32 node = host->pool().owner.node;
        host.reset();
        const UniqueFd pool(open((directory.path() + "/context/pool").c_str(), O_RDWR));
        EXPECT_EQ(try_node_lock(pool.get(), node), NodeLock::held);
        process.kill_it();
        EXPECT_EQ(try_node_lock(pool.get(), node), NodeLock::taken);
    });
}

TEST(Restart, ANodeThatWasReclaimedMakesTheContextNew) {
    const Directory directory;
    in_child([&] {
        u8 uuid[16];
        {
            Host host(options_in(directory));
            ClientProcess process([](Client& client) { client.fill(20, 64); });
            process.attach_and_wait(host);
            process.kill_it();
            std::memcpy(uuid, context().uuid, sizeof uuid);
        }
        // Everybody is dead: another process of the pool takes all back.
        in_child([&] {
            const Backing* backing = attach(directory.path() + "/context/pool");
            EXPECT_EQ(take_all(backing), pool_here().tables.chunk_count);
        });
        Host host(options_in(directory));
        EXPECT_FALSE(host.reopened());
        EXPECT_NE(std::memcmp(uuid, context().uuid, sizeof uuid), 0);
        EXPECT_EQ(context().node.load(), host.pool().owner.node);
        EXPECT_EQ(client_at(1).state.load(), static_cast<u32>(ClientState::free));
        host.sweep(0);  // the other one is dead, too
        ClientProcess process([](Client& client) { must(client.fill(20, 64) != 0, "fill"); });
        process.attach_and_wait(host);
        EXPECT_EQ(all_of(host.check()), "");
    });
}

TEST(Restart, ASecondHostIsToldOfTheFirst) {
    const Directory directory;
    in_child([&] {
        Host host(options_in(directory));
        const Output output = stderr_of([&] {
            close_range(3, ~0u, 0);
            int error = 0;
            const std::string text = refusal(options_in(directory), &error);
            EXPECT_EQ(error, EBUSY);
            EXPECT_TRUE(contains(text, "another daemon")) << text;
            EXPECT_TRUE(contains(text, std::to_string(getppid()))) << text;
        });
        EXPECT_EQ(output.status, 0) << output.text;
    });
}

/// A completer that it had forked has its descriptors until it is executed.
TEST(Restart, TheLockOfADeadHostIsWaitedFor) {
    const Directory directory;
    const NodeOptions options = options_in(directory);
    int hold[2], held[2];
    ASSERT_EQ(pipe(hold), 0);
    ASSERT_EQ(pipe(held), 0);
    const auto daemon = start_child([&] {
        Host host(options);
        const pid_t forked = fork();
        if (forked == 0) {
            char byte;
            if (write(held[1], "h", 1) == 1 && read(hold[0], &byte, 1) == 1) _exit(0);
            _exit(1);
        }
        ::kill(getpid(), SIGKILL);
    });
    EXPECT_EQ(wait_for(daemon), SIGKILL);
    char byte;
    ASSERT_EQ(read(held[0], &byte, 1), 1);
    in_child([&] {
        std::thread end([&] {
            const u64 soon = monotonic_ns() + 50'000'000;
            while (monotonic_ns() < soon) sched_yield();
            EXPECT_EQ(write(hold[1], "e", 1), 1);
        });
        EXPECT_EQ(refusal(options), "");
        end.join();
    });
    for (const int fd : {hold[0], hold[1], held[0], held[1]}) close(fd);
}

TEST(Restart, PoisonStays) {
    const Directory directory;
    in_child([&] {
        auto host = std::make_unique<Host>(options_in(directory));
        ClientProcess process([](Client& client) { client.pretend_inside(1); });
        const u32 client = process.attach_and_wait(*host);
        process.kill_it();
        host->recover(client);
        const std::string text = host->poison_text();
        host.reset();
        Host second(options_in(directory));
        EXPECT_TRUE(second.poisoned());
        EXPECT_EQ(second.poison_text(), text);
    });
}

TEST(Restart, ADamagedOrForeignContextIsRefusedWithWhatAndWhere) {
    struct Case {
        std::function<void(int)> damage;
        const char* word;
    };
    const auto write_at = [](int fd, u64 at, u64 value) {
        EXPECT_EQ(pwrite(fd, &value, sizeof value, static_cast<off_t>(at)), 8);
    };
    const Case cases[] = {
        {[&](int fd) { write_at(fd, offsetof(ContextConstants, magic), 7); }, "magic is 0x7"},
        {[&](int fd) { write_at(fd, offsetof(ContextConstants, version), 77); }, "version is 0x4d"},
        {[&](int fd) { write_at(fd, offsetof(ContextConstants, layout_hash), 1); },
         "layout hash is 0x1"},
        {[&](int fd) { write_at(fd, offsetof(ContextConstants, max_slots), 3); }, "checksum is"},
        {[&](int fd) { write_at(fd, CONTEXT_CONSTANTS_BYTES + offsetof(ContextWords, state), 9); },
         "state is 0x9"},
        {[](int fd) { EXPECT_EQ(ftruncate(fd, 1 * MiB), 0); }, "size is 0x100000"},
        {[](int fd) { EXPECT_EQ(ftruncate(fd, 10), 0); }, "header is"},
    };
    for (const Case& c : cases) {
        const Directory directory;
        in_child([&] {
            const NodeOptions options = options_in(directory);
            { Host host(options); }
            const UniqueFd fd(open(options.paths.context().c_str(), O_RDWR));
            c.damage(fd.get());
            const std::string text = refusal(options);
            EXPECT_TRUE(contains(text, c.word)) << text;
            EXPECT_TRUE(contains(text, options.paths.context())) << text;
            EXPECT_TRUE(contains(text, "remove it") || contains(text, "name another")) << text;
        });
    }
}

TEST(Restart, WhatOthersMayReachIsRefused) {
    const Directory directory;
    in_child([&] {
        const NodeOptions options = options_in(directory);
        { Host host(options); }
        chmod(options.paths.context().c_str(), 0644);
        EXPECT_TRUE(contains(refusal(options), "0600"));
        chmod(options.paths.context().c_str(), 0600);
        chmod(options.paths.directory.c_str(), 0755);
        EXPECT_TRUE(contains(refusal(options), "others may enter"));
        chmod(options.paths.directory.c_str(), 0700);
        EXPECT_EQ(refusal(options), "");
    });
}

TEST(Restart, WhatBelongsToAnotherUserIsRefused) {
    AEP_NEED_CAPABILITY(CAP_CHOWN);
    const Directory directory;
    in_child([&] {
        const NodeOptions options = options_in(directory);
        { Host host(options); }
        EXPECT_EQ(chown(options.paths.directory.c_str(), 12345, 12345), 0);
        EXPECT_TRUE(contains(refusal(options), "belongs to user 12345"));
    });
}

TEST(Restart, OnlyTmpfsWillDo) {
    const Directory directory("/var/tmp");
    in_child([&] {
        NodeOptions options = options_in(directory);
        options.paths.directory = "/proc/self";
        EXPECT_NE(refusal(options), "");
    });
}

TEST(Restart, AnotherImageIsRefused) {
    const Directory directory;
    in_child([&] {
        NodeOptions options = options_in(directory);
        options.image = "/bin/sh";
        EXPECT_TRUE(contains(refusal(options), "another version"));
        options.image = "/nowhere/image";
        EXPECT_TRUE(contains(refusal(options), "cannot be read"));
    });
}

TEST(Restart, APoolOfOnesOwnIsRemembered) {
    const Directory directory;
    in_child([&] {
        NodeOptions options = options_in(directory);
        options.pool = directory.file("elsewhere");
        { Host host(options); }
        options.pool.clear();
        {
            Host host(options);
            EXPECT_TRUE(host.reopened());
            EXPECT_EQ(host.pool().file.path, directory.file("elsewhere"));
        }
        // While a client lives no other pool will do; without one the context is made anew on it.
        auto host = std::make_unique<Host>(options);
        ClientProcess process;
        process.attach_and_wait(*host);
        host.reset();
        options.pool = directory.file("another");
        EXPECT_TRUE(contains(refusal(options), "is not the one of context"));
        process.kill_it();
        Host renewed(options);
        EXPECT_FALSE(renewed.reopened());
        EXPECT_EQ(renewed.pool().file.path, directory.file("another"));
    });
}

TEST(Restart, RemovingGivesThePoolEverythingBack) {
    const Directory directory;
    in_child([&] {
        NodeOptions options = options_in(directory);
        options.pool = directory.file("elsewhere");
        Host host(options);
        ClientProcess process([](Client& client) { client.fill(50, 64); });
        process.attach_and_wait(host);
        process.kill_it();
        host.remove();
        EXPECT_EQ(access(options.paths.directory.c_str(), F_OK), -1);
        const PoolReport report = check(options.pool);
        EXPECT_EQ(report.owned_chunks, 0u);
        EXPECT_EQ(report.live_nodes, 0u);
        EXPECT_TRUE(free_chunks_are_clean(options.pool));
    });
}

TEST(Restart, LeftoversGoWhenNobodyUsesThem) {
    const Directory directory;
    in_child([&] {
        const NodeOptions options = options_in(directory);
        EXPECT_EQ(remove_leftovers(options.paths, false), Leftovers::none);
        auto host = std::make_unique<Host>(options);
        in_child([&] {
            close_range(3, ~0u, 0);
            EXPECT_EQ(remove_leftovers(options.paths, true), Leftovers::served);
        });
        ClientProcess process;
        process.attach_and_wait(*host);
        host.reset();
        EXPECT_EQ(remove_leftovers(options.paths, false), Leftovers::in_use);
        process.kill_it();
        EXPECT_EQ(remove_leftovers(options.paths, false), Leftovers::removed);
        EXPECT_EQ(access(options.paths.directory.c_str(), F_OK), -1);
    });
}

TEST(Restart, NamesThatCouldLeadElsewhereAreNone) {
    for (const char* name : {"", ".", "..", "a/b", ".hidden", "a b", "a\n"}) {
        EXPECT_FALSE(is_context_name(name)) << name;
        EXPECT_THROW(context_paths(name), NodeError);
    }
    EXPECT_FALSE(is_context_name(std::string(64, 'a')));
    EXPECT_TRUE(is_context_name("web-1.test_2"));
    EXPECT_THROW(context_paths("none"), NodeError);  // what a program says that joins no context
    EXPECT_NO_THROW(context_paths("none-1"));
}

}  // namespace
}  // namespace aep
