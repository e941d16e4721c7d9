// Purpose: how long others wait for the lock of a client that is killed inside an operation of
//          sharing: from kill(2) until the next client's operation is over that waited for it.
// Who calls it: bench/context.py, as root or whoever the daemon is.
// Crash rule: a measuring program; its clients die with it.
//
//   aep_bench_lock_wait LIBRARY SOCKET CONTEXT_FILE KILLS
//
// A client is stopped again and again until it has the lock; then, when the other one waits for
// that, it is killed. Prints a line for each kill: nanoseconds.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <string>

#include "bench/context/churn.hpp"
#include "bench/dsm/timing.hpp"
#include "dsm-core/sharing/format.hpp"
#include "shim/context_file.hpp"

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
void wait_until(const char* what, F&& happened) {
    const double end = now_ns() + PATIENCE_NS;
    while (!happened()) {
        expect(now_ns() < end, what);
        usleep(100);
    }
}

/// A client that performs operations without a pause.
class Client {
  public:
    Client(const char* library, const char* socket) {
        const int fd = memfd_create("churn", 0);
        expect(fd >= 0 && ftruncate(fd, sizeof(Churn)) == 0, "memfd_create");
        void* page = mmap(nullptr, sizeof(Churn), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        expect(page != MAP_FAILED, "mmap");
        churn_ = static_cast<Churn*>(page);
        const std::string program = beside("aep_bench_sharing");
        pid_ = fork();
        expect(pid_ >= 0, "fork");
        if (pid_ == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            setenv("LD_PRELOAD", library, 1);
            setenv("AEP_SOCKET", socket, 1);
            setenv("AEP_REQUIRE", "1", 1);
            execl(program.c_str(), program.c_str(), "churn", std::to_string(fd).c_str(), nullptr);
            _exit(127);
        }
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
    /// Whether one of its slots has the lock of sharing.
    bool has_lock() const {
        const u32 slot = sharing().lock.holder();
        if (slot >= context().max_slots) return false;
        const u32 client = SlotOwner{slot_at(slot).owner.load()}.client();
        return client_at(client).pid == static_cast<u32>(pid_);
    }

  private:
    Churn* churn_ = nullptr;
    pid_t pid_ = -1;
};

void stop_with_lock(const Client& victim, std::mt19937& random) {
    const double end = now_ns() + PATIENCE_NS;
    for (;;) {
        usleep(200 + random() % 500);
        victim.stop();
        if (victim.has_lock()) return;
        expect(now_ns() < end, "a client never has the lock");
        victim.go_on();
    }
}

}  // namespace

int main(int count, char** arguments) {
    expect(count == 5, "usage: aep_bench_lock_wait LIBRARY SOCKET CONTEXT_FILE KILLS");
    const int fd = open(arguments[3], O_RDWR | O_CLOEXEC);
    ContextConstants constants;
    expect(fd >= 0 && !verify_context(fd, constants) && map_control(fd, constants) == 0,
           arguments[3]);
    std::mt19937 random(1);
    const Client other(arguments[1], arguments[2]);
    const Churn& its = other.churn();
    for (int left = std::atoi(arguments[4]); left > 0; --left) {
        const Client victim(arguments[1], arguments[2]);
        stop_with_lock(victim, random);
        // By now the other one waits: its operation has begun longer ago than LONG_NS.
        const u64 operations = its.operations;
        usleep(2 * LONG_NS / 1000);
        const u64 before = its.held_up;
        if (its.operations > operations + 1) continue;  // it got the lock after all
        const double struck = now_ns();
        victim.kill();
        wait_until("who waited for the lock still waits", [&] { return its.held_up != before; });
        std::printf("%.0f\n", static_cast<double>(its.ended_ns[before % Churn::KEPT]) - struck);
    }
}
