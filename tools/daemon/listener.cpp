// Purpose: see listener.hpp.
// Who calls it: see listener.hpp.
// Crash rule: see listener.hpp.
#include "tools/daemon/listener.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "node/node_error.hpp"

namespace aep {
namespace {

/// The process at the other end, which its number may not name any more (Linux 6.5).
UniqueFd peer_process(int fd, pid_t pid) {
    constexpr int PEER_PIDFD = 77;  // SO_PEERPIDFD, which older headers lack
    int pidfd = -1;
    socklen_t length = sizeof pidfd;
    if (getsockopt(fd, SOL_SOCKET, PEER_PIDFD, &pidfd, &length) == 0) return UniqueFd(pidfd);
    return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

}  // namespace

Listener::Listener(const std::string& path) : path_(path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        throw NodeError(
            ENAMETOOLONG,
            fmt::format("socket {}: its path is too long, expected at most {} bytes: give "
                        "--socket",
                        path, sizeof address.sun_path - 1));
    }
    path.copy(address.sun_path, path.size());
    fd_ = UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // Each message tells whose it is; those who are accepted inherit that.
    const int on = 1;
    if (!fd_ || setsockopt(fd_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
        throw NodeError(errno, "socket " + path + ": " + errno_text(errno));
    // We hold the context's lock: what lies there is a dead daemon's.
    struct stat st {};
    if (lstat(path.c_str(), &st) == 0 && S_ISSOCK(st.st_mode)) unlink(path.c_str());
    const mode_t before = umask(0177);
    const int bound = bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    int error = errno;
    umask(before);
    if (bound != 0 || (listen(fd_.get(), 128) != 0 && (error = errno) != 0))
        throw NodeError(error, "socket " + path + ": " + errno_text(error));
}

Listener::~Listener() { unlink(path_.c_str()); }

std::optional<Peer> Listener::accept() {
    Peer peer;
    peer.fd = UniqueFd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    starved_ =
        !peer.fd && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM);
    ucred who{};
    socklen_t length = sizeof who;
    if (!peer.fd || getsockopt(peer.fd.get(), SOL_SOCKET, SO_PEERCRED, &who, &length) != 0)
        return std::nullopt;
    peer.pid = who.pid;
    peer.uid = who.uid;
    peer.process = peer_process(peer.fd.get(), who.pid);
    return peer;
}

size_t raise_descriptor_limit() {
    rlimit limit{};
    // A sandbox that does not let us ask leaves what every process has.
    constexpr size_t USUAL = 1024;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return USUAL;
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : before;
}

}  // namespace aep
