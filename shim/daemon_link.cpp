// Purpose: see daemon_link.hpp.
// Who calls it: join.cpp, slots.cpp.
// Crash rule: see daemon_link.hpp.
#include "shim/daemon_link.hpp"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "shim/decimal.hpp"
#include "shim/message.hpp"
#include "shim/pool_file.hpp"
#include "shim/syscall.hpp"

namespace aep {
namespace {

/// A daemon that does not answer for so long is taken for gone.
constexpr long ANSWER_SECONDS = 5;

/// Appends to a path that is being put together.
class PathWriter {
  public:
    explicit PathWriter(char (&to)[MAX_SOCKET_PATH]) : to_(to) { to_[0] = '\0'; }
    void add(const char* text) {
        for (; *text != '\0'; ++text) add(*text);
    }
    void add(char c) {
        if (length_ >= MAX_SOCKET_PATH - 1) {
            fits_ = false;
            return;
        }
        to_[length_++] = c;
        to_[length_] = '\0';
    }
    void add(unsigned number) {
        each_digit(number, [this](char digit) { add(digit); });
    }
    bool fits() const { return fits_; }

  private:
    char* to_;
    usize length_ = 0;
    bool fits_ = true;
};

bool is_name(const char* name) {
    if (name[0] == '.') return false;
    for (; *name != '\0'; ++name) {
        if (*name == '/') return false;
    }
    return true;
}

void set_timeout(int fd, int option) {
    struct {
        long seconds;
        long microseconds;
    } time = {ANSWER_SECONDS, 0};
    sys::call(__NR_setsockopt, fd, SOL_SOCKET, option, sys::word(&time), sizeof time);
}

/// Who listens: anybody could have made a socket below /tmp.
bool trusted(int fd) {
    struct {
        int pid;
        unsigned uid;
        unsigned gid;
    } peer{};
    int bytes = sizeof peer;
    const long got = sys::call(__NR_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, sys::word(&peer),
                               sys::word(&bytes));
    return !sys::failed(got) && (peer.uid == 0 || peer.uid == sys::geteuid());
}

long send_message(int fd, const AskMessage& ask) {
    iovec part = {const_cast<AskMessage*>(&ask), sizeof ask};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    long sent;
    do {
        sent = sys::call(__NR_sendmsg, fd, sys::word(&header), MSG_NOSIGNAL);
    } while (sent == -EINTR);
    return sys::failed(sent) ? sent : sent == static_cast<long>(sizeof ask) ? 0 : -EPROTO;
}

void close_all(int* fds, u32 count) {
    for (u32 i = 0; i < count; ++i) {
        if (fds[i] >= 0) sys::close(fds[i]);
        fds[i] = -1;
    }
}

long receive_message(int fd, AnswerMessage& answer, int* fds, u32 fd_count) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * ATTACH_FDS)];
    iovec part = {&answer, sizeof answer};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    long got;
    do {
        got = sys::call(__NR_recvmsg, fd, sys::word(&header), MSG_CMSG_CLOEXEC);
    } while (got == -EINTR);
    for (u32 i = 0; i < fd_count; ++i) fds[i] = -1;
    if (sys::failed(got)) return got == -EAGAIN ? -ETIMEDOUT : got;
    const cmsghdr* rights = CMSG_FIRSTHDR(&header);
    if (rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
        const u32 count = static_cast<u32>((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (u32 i = 0; i < count; ++i) {
            int received;
            __builtin_memcpy(&received, CMSG_DATA(rights) + i * sizeof(int), sizeof received);
            if (i < fd_count) {
                fds[i] = received;
            } else {
                sys::close(received);
            }
        }
    }
    const bool sound = got == static_cast<long>(sizeof answer) && answer.magic == PROTOCOL_MAGIC &&
                       answer.version == PROTOCOL_VERSION;
    if (sound) return 0;
    close_all(fds, fd_count);
    return got == 0 ? -ECONNRESET : -EPROTO;
}

}  // namespace

bool find_daemon(DaemonLink& link, const Settings& settings) {
    const char* name = settings.context != nullptr ? settings.context : DEFAULT_CONTEXT;
    PathWriter path(link.path);
    if (settings.socket != nullptr) {
        if (settings.socket[0] != '/') {
            char here[4096];
            const long got = sys::getcwd(here, sizeof here);
            if (sys::failed(got)) return false;
            path.add(here);
            path.add('/');
        }
        path.add(settings.socket);
    } else {
        if (!is_name(name)) {
            message("AEP_CONTEXT=", name, " is no name of a context");
            return false;
        }
        if (sys::geteuid() == 0) {
            path.add("/run/aep");
        } else if (settings.runtime_dir != nullptr) {
            path.add(settings.runtime_dir);
            path.add("/aep");
        } else {
            path.add("/tmp/aep-");
            path.add(sys::geteuid());
        }
        path.add('/');
        path.add(name);
        path.add('/');
        path.add(SOCKET_NAME);
    }
    if (!path.fits()) message("the daemon's socket has too long a path: ", link.path, "...");
    return path.fits();
}

long connect_daemon(DaemonLink& link) {
    const long made = sys::call(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (sys::failed(made)) return made;
    const int fd = away_from_stdio(static_cast<int>(made));
    if (fd < 0) return fd;
    set_timeout(fd, SO_RCVTIMEO);
    set_timeout(fd, SO_SNDTIMEO);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    __builtin_memcpy(address.sun_path, link.path, sizeof address.sun_path);
    long result;
    do {
        result = sys::call(__NR_connect, fd, sys::word(&address), sizeof address);
    } while (result == -EINTR);
    if (!sys::failed(result) && !trusted(fd)) result = -EPERM;
    struct stat status {};
    if (!sys::failed(result)) result = sys::fstat(fd, &status);
    if (sys::failed(result)) {
        sys::close(fd);
        return result == -EAGAIN ? -ETIMEDOUT : result;
    }
    link.fd = fd;
    link.device = status.st_dev;
    link.inode = status.st_ino;
    return 0;
}

long ask_daemon(const DaemonLink& link, const AskMessage& ask, AnswerMessage& answer, int* fds,
                u32 fd_count) {
    const long sent = send_message(link.fd, ask);
    return sys::failed(sent) ? sent : receive_message(link.fd, answer, fds, fd_count);
}

bool link_is_ours(const DaemonLink& link) {
    struct stat status {};
    return link.fd >= 0 && !sys::failed(sys::fstat(link.fd, &status)) &&
           status.st_dev == link.device && status.st_ino == link.inode;
}

void close_link(DaemonLink& link) {
    if (link_is_ours(link)) sys::close(link.fd);
    link.fd = -1;
}

}  // namespace aep
