// Purpose: a whole node for the provider's tests: context and pool without names, the eBPF programs
//          pinned in a mount namespace of the test's own, and a completer.
// Who calls it: every test in this folder.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "aep-lib/completer/protocol.hpp"
#include "aep-lib/provider/ebpf_provider.hpp"
#include "dsm-core/heap/check.hpp"
#include "tests/provider/ebpf_world.hpp"

namespace aep::test {

inline constexpr u32 CLIENT = 1;      // the victims', one after the other
inline constexpr u32 MAX_SLOTS = 40;  // slot i is for the victim's thread i; more than workers

/// What victim and test share beside the context.
struct Session {
    std::atomic<u32> go;          // victims begin when it is not 0
    std::atomic<u32> ready;       // victim threads that loop, or a stage of a test's own
    std::atomic<u32> die;         // for threads that wait to end the victim's process
    std::atomic<u32> in_handler;  //
    std::atomic<u64> rounds;      // operations of all victims so far
    Heap* heaps[MAX_SLOTS];       // of the former victim's threads
};

class Node {
  public:
    enum class With { provider, nothing };
    explicit Node(With with = With::provider, u64 pool_bytes = 2 * GiB);
    ~Node();
    Node(const Node&) = delete;

    /// Forks a victim that runs `body` after it has attached and is watched.
    template <class F>
    pid_t spawn(F&& body) {
        session->go = 0;
        session->ready = 0;
        session->die = 0;
        session->in_handler = 0;
        const pid_t child = fork_victim();
        if (child == 0) {
            body();
            end_victim();
        }
        watch(child);
        session->go = 1;
        return child;
    }

    /// What a completer is given, and its end of the socket.
    CompleterFds completer_fds(int socket) const {
        return {context_, image_, pool_, provider->captures_fd(), context_, socket};
    }
    /// Starts the completer, or another one after the former's end.
    void start_completer(CompleterUser user = {geteuid(), getegid()});
    void kill_completer();
    /// The completer's end when its daemon is gone.
    void leave_completer();
    pid_t completer() const { return completer_; }
    /// Nobody's any more, as far as this object is concerned.
    void forget_completer();
    /// Asks for a slot's completion, and waits for the report of any.
    void ask(u32 slot);
    CompleterReport report();
    bool report_waits();
    CompleterReport complete(u32 slot) {
        ask(slot);
        return report();
    }

    /// Completes every slot with an odd sequence; the number of them. Fails the test unless all of
    /// them complete and the domain is sound.
    u32 recover();
    /// Fails the test if the domain is not sound.
    void check();

    /// The daemon's view of the provider ends, and begins again.
    void leave_provider() { provider.reset(); }
    void enter_provider();

    std::unique_ptr<CaptureProvider> provider;
    ImageInfo image{};
    Session* session = nullptr;
    bool in_own_pid_space = false;  // victims are init of a new pid namespace

    /// Writes to a slot's AEP stack, which this process does not map: `at` bytes from its lowest.
    void write_stack(u32 slot, u64 at, const void* from, usize bytes);

  private:
    pid_t fork_victim();
    [[noreturn]] void end_victim();
    void watch(pid_t child);

    ContextHeader header_{};
    std::string pins_;
    int context_ = -1, pool_ = -1, image_ = -1, socket_ = -1;
    pid_t completer_ = 0;
    pid_t owner_ = 0;
};

/// Waits for the end of a child; its wait status.
int wait_for(pid_t child);
/// Waits until a condition holds that other processes make true; false after many seconds.
template <class F>
bool soon(F&& condition) {
    const auto seconds = [] {
        timespec t{};
        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec;
    };
    for (const auto end = seconds() + 20; !condition();) {
        if (seconds() > end) return false;
        sched_yield();
    }
    return true;
}

}  // namespace aep::test
