// Purpose: see node.hpp.
// Who calls it: the torture's driver.
// Crash rule: see node.hpp.
#include "tools/torture/node.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <fstream>
#include <stdexcept>

#include "tools/torture/patience.hpp"

namespace aep::torture {
namespace {

constexpr int ANSWER_MS = 10'000;
constexpr unsigned USUAL_NODES = 8;  // of a pool that a daemon makes
constexpr int SERVED_ALREADY = 3;    // aepd's exit status

/// A connection to the daemon's socket; -1: nobody listens.
int connect_to(const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
        return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/// Who made the socket that we are connected to listen.
pid_t listener_of(int fd) {
    ucred peer{};
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

}  // namespace

Node::Node(const NodeSetup& setup) : setup_(setup) {
    char name[] = "/dev/shm/aep-torture.XXXXXX";
    if (mkdtemp(name) == nullptr) throw std::runtime_error("cannot make a directory in /dev/shm");
    directory_ = name;
    if (setup.pool.empty() && setup.of > USUAL_NODES) make_pool();
    start();
}

/// For more nodes than a daemon makes a pool for.
void Node::make_pool() const {
    const std::string tool = (setup_.daemon.parent_path() / "aep").string();
    const std::string pool = (directory_ / "pool").string(), nodes = fmt::to_string(setup_.of);
    const pid_t maker = fork();
    if (maker == 0) {
        if (freopen("/dev/null", "w", stdout) == nullptr) _exit(126);
        execl(tool.c_str(), "aep", "pool", "create", pool.c_str(), "--size",
              setup_.pool_size.c_str(), "--nodes", nodes.c_str(), nullptr);
        _exit(127);
    }
    int status = 0;
    if (waitpid(maker, &status, 0) != maker || status != 0)
        throw std::runtime_error("cannot make a pool for " + nodes + " nodes");
}

void Node::start(int tries) {
    const std::string socket = (directory_ / "socket").string();
    const std::string pool = (setup_.pool.empty() ? directory_ / "pool" : setup_.pool).string();
    const std::string number = fmt::to_string(setup_.number);
    const std::string log = (directory_ / "log").string();
    const std::string directory = (directory_ / "context").string();
    const std::string name = directory_.filename().string();
    pid_ = fork();
    if (pid_ == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(setup_.daemon.c_str(), "aepd", "--context", name.c_str(), "--directory",
              directory.c_str(), "--socket", socket.c_str(), "--pool", pool.c_str(), "--pool-size",
              setup_.pool_size.c_str(), "--provider", setup_.provider.c_str(), "--log-file",
              log.c_str(), "--node", number.c_str(), setup_.verify ? "--verify" : nullptr, nullptr);
        _exit(127);
    }
    for (int i = 0; i < ANSWER_MS / 10 * patience; ++i) {
        const int fd = connect_to(socket);
        // A completer that the former daemon had just forked may have its socket yet.
        const bool ours = fd >= 0 && listener_of(fd) == pid_;
        if (fd >= 0) close(fd);
        if (ours) return;
        int status = 0;
        if (waitpid(pid_, &status, WNOHANG) == pid_) {
            pid_ = -1;
            // A process that the killed one was just starting holds its lock for a moment.
            if (WIFEXITED(status) && WEXITSTATUS(status) == SERVED_ALREADY && tries > 1) {
                usleep(10'000);
                return start(tries - 1);
            }
            throw std::runtime_error("the daemon ended at once; it says: see " + log);
        }
        usleep(10'000);
    }
    throw std::runtime_error("the daemon does not answer on " + socket);
}

Node::~Node() {
    if (pid_ > 0) {
        try {
            command("down");
        } catch (const std::exception&) {
            kill(pid_, SIGTERM);
        }
        int status = 0;
        for (int i = 0; i < 500 * patience && waitpid(pid_, &status, WNOHANG) == 0; ++i)
            usleep(10'000);
        if (kill(pid_, SIGKILL) == 0) waitpid(pid_, &status, 0);
    }
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

nlohmann::json Node::command(const std::string& name) const {
    const int fd = connect_to(directory_ / "socket");
    if (fd < 0) throw std::runtime_error("the daemon does not listen");
    const std::string text = nlohmann::json{{"command", name}}.dump();
    std::string answer(4 << 20, '\0');
    pollfd wait{fd, POLLIN, 0};
    ssize_t got = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (got > 0 && poll(&wait, 1, ANSWER_MS * patience) == 0) errno = ETIMEDOUT, got = -1;
    if (got > 0) got = recv(fd, answer.data(), answer.size(), 0);
    const std::string why = got < 0 ? std::strerror(errno) : "the connection was ended";
    close(fd);
    if (got <= 0) throw std::runtime_error("no answer to '" + name + "': " + why);
    auto parsed = nlohmann::json::parse(answer.begin(), answer.begin() + got);
    if (!parsed.value("ok", false)) throw std::runtime_error(parsed.value("error", "refused"));
    return parsed;
}

void Node::restart_daemon() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    start();
}

void Node::lose_power() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    std::filesystem::remove_all(directory_ / "context");
    start();
}

std::string Node::last_words() const {
    siginfo_t how{};  // not reaped: the destructor does that
    waitid(P_PID, static_cast<id_t>(pid_), &how, WEXITED | WNOHANG | WNOWAIT);
    std::string text = how.si_pid == 0
                           ? "the daemon runs; it said:"
                           : fmt::format("the daemon ended ({}{}); it said:", how.si_status,
                                         how.si_code == CLD_EXITED ? "" : ", by a signal");
    std::ifstream log(directory_ / "log");
    std::deque<std::string> lines;
    for (std::string line; std::getline(log, line);) {
        lines.push_back(line);
        if (lines.size() > 8) lines.pop_front();
    }
    for (const std::string& line : lines) text += "\n    " + line;
    return text;
}

std::vector<std::string> Node::environment() const {
    return {"AEP_SOCKET=" + (directory_ / "socket").string(), "AEP_REQUIRE=1", "AEP_DECAY_MS=5"};
}

}  // namespace aep::torture
