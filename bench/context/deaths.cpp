// Purpose: what comes after a client's death, seen from outside: how long others wait for the lock
//          of sharing that it had, and how fast the host takes back what it had shared.
// Who calls it: bench/context.py, as root or whoever the daemon is.
// Crash rule: a measuring program; its clients die with it.
//
//   aep_bench_deaths LIBRARY SOCKET CONTEXT_FILE lock KILLS
//     A client is stopped again and again until it has the lock; then, when another one waits for
//     that, it is killed. A line for each kill: ns from kill(2) until the next client's operation
//     is over that waited.
//   aep_bench_deaths LIBRARY SOCKET CONTEXT_FILE shared OBJECTS
//     ns from the first export that the host has dropped to the last one.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <string>
#include <string_view>

#include "bench/context/churn.hpp"
#include "bench/dsm/timing.hpp"
#include "dsm-core/sharing/records.hpp"
#include "shim/context/context_file.hpp"

namespace {

using namespace aep;
using namespace aep::bench;

constexpr double PATIENCE_NS = 20e9;

std::string beside(const char* name) {
    char self[4096];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self);
    expect(length > 0, "/proc/self/exe");
    const std::string path(self, static_cast<size_t>(length));
    return path.substr(0, path.rfind('/') + 1) + name;
}

template <class F>
void wait_until(const char* what, F&& happened, unsigned pause_us = 100) {
    const double end = now_ns() + PATIENCE_NS;
    while (!happened()) {
        expect(now_ns() < end, what);
        usleep(pause_us);
    }
}

struct Where {
    const char* library;
    const char* socket;
};

/// Starts aep_bench_sharing in the context.
pid_t start(const Where& where, const char* what, const std::string& number) {
    const std::string program = beside("aep_bench_sharing");
    const pid_t pid = fork();
    expect(pid >= 0, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setenv("LD_PRELOAD", where.library, 1);
        setenv("AEP_SOCKET", where.socket, 1);
        setenv("AEP_REQUIRE", "1", 1);
        execl(program.c_str(), program.c_str(), what, number.c_str(), nullptr);
        _exit(127);
    }
    return pid;
}

/// A client that performs operations without a pause.
class Client {
  public:
    explicit Client(const Where& where) {
        const int fd = memfd_create("churn", 0);
        expect(fd >= 0 && ftruncate(fd, sizeof(Churn)) == 0, "memfd_create");
        void* page = mmap(nullptr, sizeof(Churn), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        expect(page != MAP_FAILED, "mmap");
        churn_ = static_cast<Churn*>(page);
        pid_ = start(where, "churn", std::to_string(fd));
        close(fd);
        wait_until("a client does not work", [&] { return churn().operations != 0; });
    }
    ~Client() {
        kill();
        waitpid(pid_, nullptr, 0);
        munmap(churn_, sizeof(Churn));
    }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    const Churn& churn() const { return *churn_; }
    void kill() const { ::kill(pid_, SIGKILL); }
    void go_on() const { ::kill(pid_, SIGCONT); }
    void stop() const {
        int status = 0;
        expect(::kill(pid_, SIGSTOP) == 0 && waitpid(pid_, &status, WUNTRACED) == pid_ &&
                   WIFSTOPPED(status),
               "a client has ended");
    }
    /// Whether one of its slots has the client's lock.
    bool has_lock() const {
        for (u32 i = 1; i <= context().max_clients; ++i)
            if (client_at(i).pid == static_cast<u32>(pid_)) return share_client(i).lock.is_held();
        return false;
    }

  private:
    Churn* churn_ = nullptr;
    pid_t pid_ = -1;
};

void stop_with_lock(const Client& victim, std::mt19937& random) {
    const double end = now_ns() + PATIENCE_NS;
    for (;;) {
        usleep(200 + static_cast<unsigned>(random() % 500));
        victim.stop();
        if (victim.has_lock()) return;
        expect(now_ns() < end, "a client never has the lock");
        victim.go_on();
    }
}

void waits_for_the_lock(const Where& where, unsigned kills) {
    std::mt19937 random(1);
    const Client other(where);
    const Churn& its = other.churn();
    for (; kills > 0; --kills) {
        const Client victim(where);
        stop_with_lock(victim, random);
        // By now the other one waits: its operation has begun longer ago than LONG_NS.
        const u64 operations = its.operations;
        usleep(2 * LONG_NS / 1000);
        const u64 before = its.held_up;
        if (its.operations > operations + 1) continue;  // it had not come to the lock
        const double struck = now_ns();
        victim.kill();
        wait_until("who waited for the lock still waits", [&] { return its.held_up != before; });
        std::printf("%.0f\n", static_cast<double>(its.ended_ns[before % Churn::KEPT]) - struck);
    }
}

void taken_back(const Where& where, unsigned objects) {
    const auto exports = [] { return count_shares().exports; };
    expect(exports() == 0, "somebody else shares");
    const pid_t pid = start(where, "alive", std::to_string(objects));
    wait_until("no exports", [&] { return exports() == objects; });
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    wait_until(
        "nothing is taken back", [&] { return exports() != objects; }, 10);
    const double begin = now_ns();
    wait_until(
        "not all is taken back", [&] { return exports() == 0; }, 10);
    std::printf("%.0f\n", now_ns() - begin);
}

}  // namespace

int main(int count, char** arguments) {
    expect(count == 6,
           "usage: aep_bench_deaths LIBRARY SOCKET CONTEXT_FILE lock KILLS | shared OBJECTS");
    const Where where{arguments[1], arguments[2]};
    const int fd = open(arguments[3], O_RDWR | O_CLOEXEC);
    ContextConstants constants;
    expect(fd >= 0 && !verify_context(fd, constants) && map_control(fd, constants) == 0,
           arguments[3]);
    const unsigned n = static_cast<unsigned>(std::strtoul(arguments[5], nullptr, 10));
    if (std::string_view(arguments[4]) == "lock")
        waits_for_the_lock(where, n);
    else
        taken_back(where, n);
}
