// Purpose: see completer_process.hpp.
// Who calls it: see completer_process.hpp.
// Crash rule: see completer_process.hpp.
#include "tools/daemon/completer_process.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>

#include "node/node_error.hpp"
#include "node/paths.hpp"

namespace aep {
namespace {

std::string own_program() {
    return companion({"../aep-lib/completer/aep-completer", "../lib/aep/aep-completer"},
                     "/usr/lib/aep/aep-completer");
}

}  // namespace

CompleterProcess::CompleterProcess() : events_(epoll_create1(EPOLL_CLOEXEC)) {}

std::string CompleterProcess::prepare(const WatchedContext& watched, const std::string& program) {
    program_ = program.empty() ? own_program() : program;
    const struct {
        UniqueFd& own;
        int of;
        int flags;
    } files[] = {{context_, watched.context_fd, O_RDWR},
                 {image_, watched.image_fd, O_RDONLY},
                 {pool_, watched.pool_fd, O_RDWR},
                 {constants_, watched.constants_fd, O_RDONLY}};
    if (!events_) return "a loop for the completer: " + errno_text(errno);
    for (const auto& file : files) {
        file.own = describe_again(file.of, file.flags);
        if (!file.own) return "what the completer needs: " + errno_text(errno);
    }
    return access(program_.c_str(), X_OK) == 0 ? "" : program_ + " is missing";
}

std::string CompleterProcess::start(int captures_fd) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return "a socket for the completer: " + errno_text(errno);
    socket_ = UniqueFd(ends[0]);
    const UniqueFd theirs(ends[1]);
    // It waits for its jobs, we for nothing.
    fcntl(theirs.get(), F_SETFL, 0);
    const CompleterFds fds{context_.get(), image_.get(),     pool_.get(),
                           captures_fd,    constants_.get(), theirs.get()};
    const long started = start_completer(program_.c_str(), fds, {geteuid(), getegid()});
    if (started < 0) {
        socket_.reset();
        return "the completer: " + errno_text(static_cast<int>(-started));
    }
    pid_ = static_cast<pid_t>(started);
    add_event(socket_.get());
    return "";
}

int CompleterProcess::end() {
    int status = 0;
    if (pid_ == 0) return status;
    socket_.reset();  // it ends when nobody is at this end
    kill(pid_, SIGKILL);
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    return status;
}

void CompleterProcess::add_event(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event);
}

bool CompleterProcess::send_job(u32 slot) {
    const CompleterJob job{slot};
    return send(socket_.get(), &job, sizeof job, MSG_NOSIGNAL) == sizeof job;
}

bool CompleterProcess::receive(const std::function<bool(const CompleterReport&)>& take) {
    while (runs()) {
        CompleterReport report;
        const ssize_t got = recv(socket_.get(), &report, sizeof report, MSG_DONTWAIT);
        if (got == sizeof report) {
            if (!take(report)) return true;
        } else if (got < 0 && errno == EINTR) {
            continue;
        } else {
            return got < 0 && errno == EAGAIN;
        }
    }
    return true;
}

}  // namespace aep
