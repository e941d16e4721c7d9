// Purpose: operations of the host's under the provider `ebpf`, with a real completer: daemons are
//          killed at every named point on the way, completers in the middle of the operation.
// Who calls it: ctest; built with -DAEP_CRASH_POINTS from the host's and the plug's own sources.
// Crash rule: this is the test of the crash rules of host_slot.cpp and synthetic_capture.cpp.
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <fstream>
#include <random>

#include "dsm-core/sharing/share_ops.hpp"
#include "node/crash_points.hpp"
#include "tests/node/fixture.hpp"
#include "tests/provider/ebpf_world.hpp"
#include "tools/daemon/ebpf_plug.hpp"

namespace aep {
namespace {

using namespace test;

/// A daemon without its loop.
struct EbpfHost {
    EbpfPlug plug;
    Host host;

    explicit EbpfHost(const NodeOptions& options, CompleterOptions completer = {})
        : plug(options.paths, test_log(), std::move(completer)), host(options, plug) {
        EXPECT_EQ(plug.start(host.watched()), "");
        plug.begin();
        // Ready: it is another program by now, and none that has its daemon's lock.
        await_event();
    }
    /// The next answer of a completer's.
    void await_event() {
        pollfd event{plug.event_fd(), POLLIN, 0};
        ASSERT_EQ(poll(&event, 1, 60'000), 1) << said;
        plug.on_event();
    }
    /// Asks again after each event until it is not pending.
    Performed give_back(u32 client, u32 chunk, op::ReturnChunk::Reply& reply) {
        return until([&] { return return_for(host, client, chunk, reply); });
    }
    template <class F>
    Performed until(F&& ask) {
        Performed performed = ask();
        while (performed == Performed::pending && !::testing::Test::HasFailure()) {
            await_event();
            performed = ask();
        }
        return performed;
    }
    void recover(u32 client) {
        while (host.recover(client).state == RecoveryState::waiting &&
               !::testing::Test::HasFailure())
            await_event();
        EXPECT_FALSE(host.poisoned()) << host.poison_text();
        EXPECT_EQ(client_at(client).state.load(), static_cast<u32>(ClientState::free));
        EXPECT_EQ(context().captured.load(), 0u);  // no client's thread was killed inside
        expect_all_back(host);
        plug.remove();
    }
};

/// The only child of this process that is one: clients are its parent's.
pid_t completer_pid() {
    const std::string self = std::to_string(getpid());
    std::ifstream file("/proc/" + self + "/task/" + self + "/children");
    pid_t pid = 0;
    file >> pid;
    return pid;
}

bool soon_in_image(pid_t completer) {
    const auto image = read_image_info(UniqueFd(open(AEP_TEST_IMAGE, O_RDONLY)).get());
    auto info = image;
    for (const time_t end = time(nullptr) + 60; time(nullptr) < end; sched_yield())
        if (wait_in_image(*info, completer, 1)) return true;
    return false;
}

/// Shared by all processes of one test.
struct Plan {
    const char* target = nullptr;  // the point to die at
    bool died = false;
    u32 client = 0;
    u32 chunk = 0;
    u32 found_open = 0;  // host slots, by the next daemon
};
Plan* plan = nullptr;

void at_point(const char* name) {
    if (plan->target == nullptr || std::strcmp(name, plan->target) != 0) return;
    plan->died = true;
    kill(getpid(), SIGKILL);
}

class PerformEbpf : public ::testing::Test {
  protected:
    void SetUp() override {
        AEP_NEED_EBPF();
        void* shared =
            mmap(nullptr, OS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ASSERT_NE(shared, MAP_FAILED);
        plan = new (shared) Plan;
    }
    void TearDown() override {
        if (plan != nullptr) munmap(plan, OS_PAGE_SIZE);
    }
};

TEST_F(PerformEbpf, ByTheCompleterOnce) {
    const Directory directory;
    ClientProcess victim([](Client& client) { claim_bare(client, 2); });
    in_child([&] {
        EbpfHost daemon(options_in(directory));
        const u32 client = victim.attach_and_wait(daemon.host);
        victim.kill_it();
        const u32 chunk = bare_chunk_of(client);
        const Slot& slot = slot_at(host_slot());
        op::ReturnChunk::Reply reply;
        // At first it waits for the completer; in between the host may look after other things.
        EXPECT_EQ(return_for(daemon.host, client, chunk, reply), Performed::pending);
        EXPECT_EQ(daemon.host.recover(client).state, RecoveryState::waiting);
        EXPECT_EQ(daemon.give_back(client, chunk, reply), Performed::done);
        EXPECT_EQ(reply.status, Status::ok);
        EXPECT_EQ(chunk_owner(chunk).load(), OWNER_CACHED);
        EXPECT_EQ(client_at(client).chunks.load(), 1u);
        EXPECT_EQ(slot.operations, 1u);
        EXPECT_EQ(slot.owner.load(), 0u);
        // Again and again on the same stack, each with a capture of its own.
        for (u32 i = 0; i < 200; ++i) {
            EXPECT_EQ(daemon.give_back(client, chunk, reply), Performed::done);
            EXPECT_EQ(reply.status, Status::miss);
        }
        EXPECT_EQ(slot.operations, 201u);
        daemon.recover(client);
    });
}

/// A daemon that dies at `point`. The next one asks for the same again, or recovers at once.
void survive(const char* point, bool asks_again) {
    SCOPED_TRACE(std::string(point) + (asks_again ? ", asked again" : ""));
    const Directory directory;
    const NodeOptions options = options_in(directory);
    *plan = {};
    plan->target = point;
    ClientProcess victim([](Client& client) { claim_bare(client, 2); });
    const int status = wait_for(start_child([&] {
        EbpfHost daemon(options);
        plan->client = victim.attach_and_wait(daemon.host);
        victim.kill_it();
        plan->chunk = bare_chunk_of(plan->client);
        crash_point_hook = at_point;
        op::ReturnChunk::Reply reply;
        daemon.give_back(plan->client, plan->chunk, reply);
    }));
    EXPECT_EQ(status, SIGKILL);
    EXPECT_TRUE(plan->died) << "never reached";
    victim.kill_it();
    in_child([&] {
        EbpfHost daemon(options);
        const u32 client = plan->client;
        const Slot& slot = slot_at(host_slot());
        const bool open = std::strcmp(point, "capture: in force") == 0;
        const bool over = std::strcmp(point, "operation: performed") == 0 ||
                          std::strcmp(point, "operation: slot freed") == 0;
        // A completer that outlived its daemon for a moment may have completed it.
        if (!open) {
            EXPECT_FALSE(is_open(slot));
            EXPECT_EQ(slot.operations, over ? 1u : 0u);
            EXPECT_EQ(chunk_owner(plan->chunk).load(), over ? OWNER_CACHED : client);
        }
        if (asks_again) {
            op::ReturnChunk::Reply reply;
            EXPECT_EQ(daemon.give_back(client, plan->chunk, reply), Performed::done);
            EXPECT_EQ(reply.status, open || over ? Status::miss : Status::ok);
            EXPECT_EQ(client_at(client).chunks.load(), 1u);
            EXPECT_EQ(chunk_owner(plan->chunk).load(), OWNER_CACHED);
            EXPECT_EQ(slot.operations, open || over ? 2u : 1u);
        }
        daemon.recover(client);
        EXPECT_EQ(slot.operations, u32{open || over} + u32{asks_again});
        EXPECT_EQ(slot.owner.load(), 0u);
    });
}

TEST_F(PerformEbpf, DaemonsKilledAtEveryPoint) {
    for (const bool asks_again : {true, false}) {
        for (const char* point : NODE_CRASH_POINTS) {
            const bool ours = std::strncmp(point, "operation: ", 11) == 0;
            if (ours && std::strcmp(point, "operation: begun") != 0) survive(point, asks_again);
        }
        for (const char* point : CAPTURE_CRASH_POINTS) survive(point, asks_again);
    }
}

constexpr op::TakeRun TAKE_RUN{.slices = 1, .alignment = 1};

TEST_F(PerformEbpf, CompletersKilledInTheMiddle) {
    const Directory directory;
    NodeOptions options = options_in(directory);
    options.verify = false;  // the run that the operation takes is nobody's
    ClientProcess victim([](Client& client) { client.claim(1); });
    in_child([&] {
        EbpfHost daemon(options);
        const u32 client = victim.attach_and_wait(daemon.host);
        victim.kill_it();
        Lock& lock = domain_at(client).arena.lock();
        const Slot& slot = slot_at(host_slot());
        op::TakeRun::Reply reply;
        const auto ask = [&] { return daemon.host.perform_for(client, TAKE_RUN, reply); };
        lock.lock();
        EXPECT_EQ(ask(), Performed::pending);
        pid_t former = 0;
        for (int i = 0; i < 5; ++i) {
            const pid_t completer = completer_pid();
            ASSERT_NE(completer, former);
            ASSERT_TRUE(soon_in_image(completer)) << said;
            EXPECT_EQ(ask(), Performed::pending);
            kill(completer, SIGKILL);
            // Its death is an event, and so is its successor's being ready.
            // The more often, the later.
            const auto followed = [&] {
                return completer_pid() != 0 && completer_pid() != completer;
            };
            while (!followed()) ASSERT_NO_FATAL_FAILURE(daemon.await_event());
            former = completer;
        }
        ASSERT_TRUE(soon_in_image(completer_pid())) << said;
        EXPECT_EQ(slot.operations, 1u);
        lock.unlock();
        EXPECT_EQ(daemon.until(ask), Performed::done);
        EXPECT_EQ(reply.status, Status::ok);
        EXPECT_EQ(reply.run.slices, 1u);
        EXPECT_EQ(slot.operations, 1u);
        daemon.recover(client);
    });
}

TEST_F(PerformEbpf, DaemonsKilledInTheMiddle) {
    const Directory directory;
    NodeOptions options = options_in(directory);
    options.verify = false;
    ClientProcess victim([](Client& client) { client.claim(1); });
    EXPECT_EQ(wait_for(start_child([&] {
                  EbpfHost daemon(options);
                  plan->client = victim.attach_and_wait(daemon.host);
                  victim.kill_it();
                  domain_at(plan->client).arena.lock().lock();
                  op::TakeRun::Reply reply;
                  daemon.host.perform_for(plan->client, TAKE_RUN, reply);
                  EXPECT_TRUE(soon_in_image(completer_pid())) << said;
                  kill(getpid(), ::testing::Test::HasFailure() ? SIGTERM : SIGKILL);
              })),
              SIGKILL);
    victim.kill_it();
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(wait_for(start_child([&] {
                      EbpfHost daemon(options);
                      EXPECT_EQ(daemon.host.recover(plan->client).state, RecoveryState::waiting);
                      EXPECT_TRUE(soon_in_image(completer_pid())) << said;
                      kill(getpid(), ::testing::Test::HasFailure() ? SIGTERM : SIGKILL);
                  })),
                  SIGKILL);
    }
    in_child([&] {
        EbpfHost daemon(options);
        Slot& slot = slot_at(host_slot());
        EXPECT_TRUE(is_open(slot));
        domain_at(plan->client).arena.lock().unlock();
        // Taken back as part of its client: no lock is held, nothing is done twice.
        daemon.recover(plan->client);
        EXPECT_EQ(slot.operations, 1u);
        EXPECT_EQ(received<op::TakeRun::Reply>(slot.reply).run.slices, 1u);
        EXPECT_EQ(slot.owner.load(), 0u);
    });
}

/// Where the image's text has a system call, in a client.
u64 system_call_in_image(pid_t client) {
    auto image = read_image_info(UniqueFd(open(AEP_TEST_IMAGE, O_RDONLY | O_CLOEXEC)).get());
    std::string text(image->text_end - image->text_begin, '\0');
    const iovec to{text.data(), text.size()};
    const iovec from{reinterpret_cast<void*>(image->text_begin), text.size()};
    EXPECT_EQ(process_vm_readv(client, &to, 1, &from, 1, 0), static_cast<ssize_t>(text.size()));
    return image->text_begin + text.find("\x0f\x05");
}

/// Kills a client with registers of its choice: about to make a file.
void die_making_a_file(pid_t client, u64 slot_stack) {
    int status = 0;
    ASSERT_EQ(ptrace(PTRACE_SEIZE, client, nullptr, nullptr), 0);
    ASSERT_EQ(ptrace(PTRACE_INTERRUPT, client, nullptr, nullptr), 0);
    ASSERT_EQ(waitpid(client, &status, __WALL), client);
    user_regs_struct registers{};
    ptrace(PTRACE_GETREGS, client, nullptr, &registers);
    registers.rip = system_call_in_image(client);
    registers.orig_rax = ~0ULL;
    registers.rax = SYS_open;
    registers.rdi = slot_stack;  // the path
    registers.rsi = O_CREAT | O_RDWR;
    registers.rdx = 0600;
    registers.rsp = slot_stack + 4096;
    ASSERT_EQ(ptrace(PTRACE_SETREGS, client, nullptr, &registers), 0);
    kill(client, SIGKILL);
    while (waitpid(client, &status, __WALL) == client && !WIFSIGNALED(status)) {
    }
}

// It gets nothing but its own context's end: the daemon lives, and whoever comes is told why. It is
// another user's by then, who may not make a file there; the completer's user may.
TEST_F(PerformEbpf, ClientThatChoosesTheCompletersRegisters) {
    const Directory directory;
    const std::string path = directory.path() + "/made";
    ClientProcess hostile([&](Client& client) {
        client.pretend_inside(number_of<op::TakeRun>());
        const u64 page = stack_of_slot(client.slot());
        path.copy(reinterpret_cast<char*>(page), path.size() + 1);
        constexpr uid_t STRANGER = 65534;
        must(setresuid(STRANGER, STRANGER, STRANGER) == 0, "another user");
        must(access(directory.path().c_str(), W_OK) != 0, "it may write there");
    });
    ClientProcess honest([](Client& client) { claim_bare(client, 2); });
    ClientProcess later;
    in_child([&] {
        EbpfHost daemon(options_in(directory));
        const u32 other = honest.attach_and_wait(daemon.host);
        const u32 client = hostile.attach_and_wait(daemon.host);
        const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, hostile.pid(), 0)));
        ASSERT_EQ(daemon.plug.watch(client, hostile.pid(), pidfd.get()), "");
        u32 slot = 0;
        while (SlotOwner{slot_at(slot).owner.load()}.client() != client) ++slot;
        ASSERT_NO_FATAL_FAILURE(die_making_a_file(hostile.pid(), stack_of_slot(slot)));
        const pid_t completer = completer_pid();
        while (daemon.host.recover(client).state == RecoveryState::waiting)
            ASSERT_NO_FATAL_FAILURE(daemon.await_event());
        EXPECT_NE(access(path.c_str(), F_OK), 0);
        EXPECT_NE(said.find("broke: signal 31"), std::string::npos) << said;
        EXPECT_EQ(completer_pid(), completer);
        EXPECT_TRUE(daemon.host.poisoned());
        EXPECT_NE(daemon.host.poison_text().find("cannot be completed"), std::string::npos);
        const AnswerMessage answer = later.attach(daemon.host);
        EXPECT_NE(answer.error, 0u);
        EXPECT_NE(std::string(answer.text).find("poisoned"), std::string::npos) << answer.text;
        honest.kill_it();
        daemon.host.recover(other);
        EXPECT_EQ(client_at(other).state.load(), static_cast<u32>(ClientState::free));
        daemon.plug.remove();
    });
}

// An operation that waits for what nobody gives: after the limit it is given up.
TEST_F(PerformEbpf, OperationsThatNeverEndAreGivenUp) {
    const Directory directory;
    ClientProcess victim([](Client& client) { client.claim(1); });
    in_child([&] {
        EbpfHost daemon(options_in(directory), {.program = "", .limit_ms = 200});
        const u32 client = victim.attach_and_wait(daemon.host);
        victim.kill_it();
        domain_at(client).arena.lock().lock();
        op::TakeRun::Reply reply;
        const auto ask = [&] { return daemon.host.perform_for(client, TAKE_RUN, reply); };
        EXPECT_EQ(daemon.until(ask), Performed::failed);
        EXPECT_TRUE(daemon.host.poisoned());
        EXPECT_NE(said.find("does not end in 200 ms"), std::string::npos) << said;
        while (daemon.host.recover(client).state == RecoveryState::waiting) daemon.await_event();
        EXPECT_EQ(client_at(client).state.load(), static_cast<u32>(ClientState::free));
        daemon.plug.remove();
    });
}

// A completer that has been taken over says that all is done. Three of them do; then the operation is undone.
TEST_F(PerformEbpf, CompletedIsNotBelievedWhileTheOperationIsOpen) {
    const Directory directory;
    const std::string liar = directory.path() + "/good";
    ASSERT_EQ(symlink(AEP_BAD_COMPLETER, liar.c_str()), 0);
    ClientProcess victim([](Client& client) { client.pretend_half_way(number_of<op::Send>()); });
    in_child([&] {
        EbpfHost daemon(options_in(directory), {.program = liar});
        daemon.host.set_provider(Provider::ebpf);
        const u32 client = victim.attach_and_wait(daemon.host);
        victim.kill_it();
        const Slot& slot = slot_at(0);
        ASSERT_TRUE(is_open(slot));
        u32 events = 0;  // answer, end and successor of each of them
        while (daemon.host.recover(client).state == RecoveryState::waiting) {
            ASSERT_LT(++events, 100u) << said;
            ASSERT_NO_FATAL_FAILURE(daemon.await_event());
        }
        EXPECT_TRUE(contains(said, "reports what is not so of slot 0")) << said;
        EXPECT_FALSE(contains(said, "is completed")) << said;
        EXPECT_EQ(context().undone.load(), 1u);
        EXPECT_FALSE(daemon.host.poisoned());
        daemon.plug.remove();
    });
}

// What a slot says of its completer and its stack is a client's word.
TEST_F(PerformEbpf, WordsOfASlotAreNotBelieved) {
    const Directory directory;
    ClientProcess victim([](Client& client) { claim_bare(client, 2); });
    in_child([&] {
        EbpfHost daemon(options_in(directory));
        const u32 client = victim.attach_and_wait(daemon.host);
        victim.kill_it();
        u32 slot = 0;
        while (SlotOwner{slot_at(slot).owner.load()}.client() != client) ++slot;
        slot_at(slot).completer.store(12345);
        slot_at(host_slot()).completer.store(12345);
        slot_at(host_slot()).stack_top = 0x1234'5678;
        op::ReturnChunk::Reply reply;
        EXPECT_EQ(daemon.give_back(client, bare_chunk_of(client), reply), Performed::done);
        EXPECT_EQ(reply.status, Status::ok);
        slot_at(host_slot()).stack_top = stack_top_of(host_slot());
        daemon.recover(client);
    });
}

/// What the client has by its own count and by the chunks' words: a claim or a return that is
/// performed twice, or by half, makes them differ.
void expect_counts_agree(u32 client) {
    u64 has = 0;
    for (u32 c = 0; c < context().chunk_count; ++c) has += chunk_owner(c).load() == client;
    EXPECT_EQ(client_at(client).chunks.load(), has);
}

TEST_F(PerformEbpf, DaemonsKilledAnywhere) {
    constexpr int ROUNDS = 60;
    const Directory directory;
    // Fewer entries for watched processes than completers that die here.
    const NodeOptions options = options_in(directory);
    ClientProcess victim([](Client&) {});
    in_child([&] {
        EbpfHost daemon(options);
        plan->client = victim.attach_and_wait(daemon.host);
        victim.kill_it();
    });
    constexpr op::ClaimChunks claim{.count = 2};
    std::minstd_rand random(11);
    for (int round = 0; round < ROUNDS; ++round) {
        SCOPED_TRACE(round);
        const auto after = static_cast<suseconds_t>(1 + random() % 3000);
        const int status = wait_for(start_child([&] {
            EbpfHost daemon(options);
            const u32 client = plan->client;
            plan->found_open += is_open(slot_at(host_slot()));
            op::ReturnChunk::Reply reply;
            // The first one also finishes what was left.
            EXPECT_EQ(daemon.give_back(client, context().chunk_count, reply), Performed::done);
            expect_counts_agree(client);
            if (::testing::Test::HasFailure()) return;
            const itimerval timer{{0, 0}, {0, after}};
            setitimer(ITIMER_REAL, &timer, nullptr);  // SIGALRM ends it
            for (;;) {
                op::ClaimChunks::Reply claimed;
                daemon.until([&] { return daemon.host.perform_for(client, claim, claimed); });
                while (bare_chunk_of(client) < context().chunk_count)
                    daemon.give_back(client, bare_chunk_of(client), reply);
            }
        }));
        ASSERT_EQ(status, SIGALRM);
    }
    in_child([&] {
        EbpfHost daemon(options);
        daemon.recover(plan->client);
    });
    std::printf("%d daemons killed, %u of them left an operation open\n", ROUNDS, plan->found_open);
}

}  // namespace
}  // namespace aep
