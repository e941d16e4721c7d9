// Purpose: a client that is stopped at any named point of an operation, with all that it has locked, holds up nobody who has
//          nothing to do with it.
// Who calls it: ctest: stopped_clients PROVIDER. Real processes, stopped by SIGSTOP, in a context of their own.
// Crash rule: the clients and the daemon die with it.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <random>
#include <stdexcept>

#include "tools/torture/node.hpp"
#include "tools/torture/patience.hpp"
#include "tools/torture/pause.hpp"
#include "tools/torture/points.hpp"
#include "tools/torture/victim_process.hpp"

namespace aep::torture {
namespace {

using Clock = std::chrono::steady_clock;

/// tests/torture/pair.cpp, which exchanges so many objects whenever it is told to.
class Pair {
  public:
    static constexpr int ROUNDS = 500, TURN_MS = 4'000;

    Pair(const std::filesystem::path& program, const VictimSetup& setup) {
        int in[2], out[2];
        if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
            throw std::runtime_error("no pipe");
        pid_ = fork();
        if (pid_ == 0) {
            dup2(in[0], 0);
            dup2(out[1], 1);
            become_client(setup, program, {fmt::to_string(ROUNDS)});
        }
        close(in[0]);
        close(out[1]);
        to_ = in[1];
        from_ = out[0];
        if (!says("ready")) throw std::runtime_error("the pair does not start");
    }
    ~Pair() {
        close(to_);
        close(from_);
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;

    /// Whether a turn ends in time. One that was begun before ends first.
    bool goes_on() {
        if (behind_ && !says("done")) return false;
        behind_ = write(to_, "\n", 1) != 1 || !says("done");
        return !behind_;
    }

  private:
    bool says(const char* word) const {
        char line[16] = {};
        pollfd wait{from_, POLLIN, 0};
        return poll(&wait, 1, TURN_MS * patience) == 1 && read(from_, line, sizeof line - 1) > 0 &&
               std::strncmp(line, word, std::strlen(word)) == 0;
    }

    pid_t pid_ = -1;
    int to_ = -1, from_ = -1;
    bool behind_ = false;
};

constexpr Death STOPPED{"stop", By::point, ""};
constexpr Death KILLED{"sigkill", By::driver, ""};

/// Two, for chance may give an object of one of them the stripe of the address table that the stopped client has locked: some
/// eight of 4,096, so once in twenty runs of all points. Not one of both.
struct Pairs {
    Pair one, other;

    bool go_on() { return one.goes_on() || other.goes_on(); }
};

/// Clients that are dead are taken back, all but the pairs.
void recover(const Node& node) {
    constexpr std::size_t PAIRS = 4;
    const auto end = Clock::now() + std::chrono::seconds(5 * patience);
    do {
        node.command("recover");
    } while (node.command("clients").at("clients").size() > PAIRS && Clock::now() < end);
}

/// Stops a client there; then a pair does a turn. False: none came there.
bool try_point(const Node& node, const VictimSetup& setup, Pairs& pairs, const std::string& point,
               const std::vector<std::uint64_t>& addresses, std::uint64_t seed) {
    Victim company(setup, seed, KILLED, 0);  // some points are what happens between clients
    Victim victim(setup, seed + 1, STOPPED, 0);
    if (!victim.stop_at_point(addresses, 1500)) return false;
    if (!pairs.go_on())
        throw std::runtime_error(fmt::format("a client stopped at '{}' holds up others", point));
    victim.end(KILLED);
    company.end(KILLED);
    recover(node);
    const auto findings = node.command("check").at("findings");
    if (!findings.empty())
        throw std::runtime_error(fmt::format("after '{}': {}", point, findings.dump()));
    return true;
}

int run(const std::string& provider) {
    const auto build =
        std::filesystem::canonical("/proc/self/exe").parent_path().parent_path().parent_path();
    const Node node(NodeSetup{.daemon = build / "tools/aepd", .provider = provider});
    const VictimSetup setup{.program = build / "tools/aep-torture-victim",
                            .library = build / "preload/libaepmalloc.so",
                            .environment = node.environment(),
                            .pause = node.directory() / "pause",
                            .threads = 3,
                            .oom_group = {}};
    const Pause never(setup.pause.c_str(), true);
    const auto pair = build / "tests/torture/torture_pair";
    Pairs pairs{{pair, setup}, {pair, setup}};
    std::random_device random;
    unsigned tries = 0, missed = 0;
    const auto points = points_of_image(build / "aep-lib/image/aep-image", false);
    for (const auto& [name, addresses] : points) {
        constexpr unsigned MOST_TRIES = 60;
        bool hit = false;
        for (unsigned i = 0; i < MOST_TRIES && !hit; ++i, ++tries)
            hit = try_point(node, setup, pairs, name, addresses, random());
        if (hit) continue;
        fmt::print("never stopped at '{}'\n", name);
        ++missed;
    }
    fmt::print("{} points, {} clients stopped or not, {} points never reached\n", points.size(),
               tries, missed);
    return missed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace aep::torture

int main(int count, char** arguments) {
    if (count != 2) {
        fmt::print(stderr, "usage: stopped_clients PROVIDER\n");
        return 2;
    }
    aep::torture::patience = 5;
    try {
        return aep::torture::run(arguments[1]);
    } catch (const std::exception& e) {
        fmt::print(stderr, "stopped_clients: {}\n", e.what());
        return 1;
    }
}
