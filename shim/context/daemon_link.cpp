// Purpose: see daemon_link.hpp.
// Who calls it: see daemon_link.hpp.
// Crash rule: see daemon_link.hpp.
#include "shim/context/daemon_link.hpp"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "shim/sys/decimal.hpp"
#include "shim/sys/files.hpp"
#include "shim/sys/proc_file.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

/// A daemon that does not answer for so long is taken for gone; one that is stopped, after the
/// first look.
constexpr long LOOK_MICROSECONDS = 200'000;
constexpr u32 MOST_LOOKS = 25;
/// As many as may wait do so, and for so long nobody was let in.
constexpr long CONNECT_SECONDS = 1;

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
        each_digit(
            number, [this](char digit) { add(digit); });
    }
    bool fits() const { return fits_; }

  private:
    char* to_;
    usize length_ = 0;
    bool fits_ = true;
};

bool is_name(const char* name) {
    if (name[0] == '.') return false;
    for (; *name != '\0'; ++name)
        if (*name == '/') return false;
    return true;
}

void set_timeout(int fd, int option, long seconds, long microseconds) {
    struct {
        long seconds;
        long microseconds;
    } time = {seconds, microseconds};
    sys::call(__NR_setsockopt, fd, SOL_SOCKET, option, sys::word(&time), sizeof time);
}

bool trusted(DaemonLink& link, unsigned user, usize path_bytes) {
    if (user == 0 || user == sys::geteuid()) return true;
    link.stranger = user;
    link.strange_bytes = path_bytes;
    return false;
}

/// The first `bytes` of the path: whose is it? 0 or -errno.
long check_owner(DaemonLink& link, usize bytes) {
    char part[MAX_SOCKET_PATH] = {};
    __builtin_memcpy(part, link.path, bytes);
    struct stat status {};
    const long found = sys::lstat(part, &status);
    if (sys::failed(found)) return found;
    return trusted(link, status.st_uid, bytes) ? 0 : -EPERM;
}

/// Anybody can make a directory in /tmp, and a socket in it where nobody ever answers.
long check_place(DaemonLink& link) {
    const usize length = __builtin_strlen(link.path);
    usize ends[3] = {length, length, length};  // where NAME's directory and the one above it end
    for (usize i = 1; i < 3; ++i) {
        usize end = ends[i - 1];
        while (end > 1 && link.path[end - 1] != '/') --end;
        ends[i] = end > 1 ? end - 1 : end;
    }
    for (usize i = link.usual_place ? 2 : 0;; --i) {
        const long checked = check_owner(link, ends[i]);
        if (sys::failed(checked) || i == 0) return checked;
    }
}

/// Who listens.
long check_daemon(DaemonLink& link, int fd) {
    struct {
        int pid;
        unsigned uid;
        unsigned gid;
    } peer{};
    int bytes = sizeof peer;
    const long got = sys::call(__NR_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, sys::word(&peer),
                               sys::word(&bytes));
    if (sys::failed(got)) return got;
    link.pid = peer.pid;
    return trusted(link, peer.uid, 0) ? 0 : -EPERM;
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

/// Whether the daemon that was connected to is stopped (SIGSTOP), so that it cannot answer.
bool daemon_is_stopped(const DaemonLink& link) {
    if (link.pid == 0) return false;
    char path[32] = "/proc/", stat[512];
    usize length = 6;
    each_digit(static_cast<u32>(link.pid), [&](char digit) { path[length++] = digit; });
    __builtin_memcpy(path + length, "/stat", 6);
    if (read_small_file(path, stat, sizeof stat) == 0) return false;
    // The state follows the name in parentheses, which may hold anything.
    const char* state = nullptr;
    for (const char* c = stat; *c != '\0'; ++c)
        if (c[0] == ')' && c[1] == ' ') state = c + 2;
    return state != nullptr && *state == 'T';
}

/// Whether `fd` still is the connection that was made.
bool link_is_ours(const DaemonLink& link) {
    struct stat status {};
    return link.fd >= 0 && !sys::failed(sys::fstat(link.fd, &status)) &&
           status.st_dev == link.device && status.st_ino == link.inode;
}

long receive_message(const DaemonLink& link, AnswerMessage& answer, int* fds, u32 fd_count) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * ATTACH_FDS)];
    iovec part = {&answer, sizeof answer};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    long got = 0;
    u32 looks = 0;
    bool reset = false;
    do {
        if (got == -ECONNRESET) reset = true;
        got = sys::call(__NR_recvmsg, link.fd, sys::word(&header), MSG_CMSG_CLOEXEC);
        // A reset is told once; what was sent before it is there.
    } while (got == -EINTR || (got == -ECONNRESET && !reset) ||
             (got == -EAGAIN && ++looks < MOST_LOOKS && !daemon_is_stopped(link)));
    for (u32 i = 0; i < fd_count; ++i) fds[i] = -1;
    if (sys::failed(got)) return got == -EAGAIN ? -ETIMEDOUT : got;
    const cmsghdr* rights = CMSG_FIRSTHDR(&header);
    if (rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
        const u32 count = static_cast<u32>((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (u32 i = 0; i < count; ++i) {
            int received;
            __builtin_memcpy(&received, CMSG_DATA(rights) + i * sizeof(int), sizeof received);
            if (i < fd_count)
                fds[i] = received;
            else
                sys::close(received);
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
            if (sys::failed(got) || here[0] != '/') {
                message("context ", name,
                        ": cannot find the working directory: give AEP_SOCKET an absolute path");
                return false;
            }
            path.add(here);
            path.add('/');
        }
        path.add(settings.socket);
    } else {
        if (!is_name(name)) {
            message("AEP_CONTEXT=", name,
                    " is no name of a context: expected 1 to 63 letters, digits, '.', '_' or '-', "
                    "and no '.' "
                    "at the beginning");
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
        link.usual_place = true;
    }
    if (!path.fits())
        message("the daemon's socket has too long a path: ", link.path,
                "...: give AEP_SOCKET a shorter one");
    return path.fits();
}

long connect_daemon(DaemonLink& link) {
    link.pid = 0;
    link.strange_bytes = 0;
    if (const long checked = check_place(link); sys::failed(checked)) return checked;
    const long made = sys::call(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (sys::failed(made)) return made;
    const int fd = away_from_stdio(static_cast<int>(made));
    if (fd < 0) return fd;
    set_timeout(fd, SO_RCVTIMEO, 0, LOOK_MICROSECONDS);
    set_timeout(fd, SO_SNDTIMEO, CONNECT_SECONDS, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    __builtin_memcpy(address.sun_path, link.path, sizeof address.sun_path);
    long result;
    do {
        result = sys::call(__NR_connect, fd, sys::word(&address), sizeof address);
    } while (result == -EINTR);
    if (!sys::failed(result)) result = check_daemon(link, fd);
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
    // One that refuses the connection has said why, and gone, before it was asked.
    if (sys::failed(sent) && sent != -EPIPE && sent != -ECONNRESET) return sent;
    return receive_message(link, answer, fds, fd_count);
}

MessageLine no_answer(const DaemonLink& link, const char* context, long error) {
    MessageLine line;
    const auto add = [&line](auto... parts) { (line.add(parts), ...); };
    add("context ", context, ": no answer at ", link.path, ": ");
    if (error == -EPERM && link.strange_bytes != 0) {
        char part[MAX_SOCKET_PATH] = {};
        __builtin_memcpy(part, link.path, link.strange_bytes);
        add(part, " belongs to user ", link.stranger, ", expected ", sys::geteuid(),
            " or root: somebody else made it; set AEP_SOCKET or XDG_RUNTIME_DIR to a place of "
            "your own");
    } else if (error == -EPERM && link.stranger != 0) {
        add("its daemon (pid ", link.pid, ") belongs to user ", link.stranger, ", expected ",
            sys::geteuid(), " or root");
    } else if (error == -ETIMEDOUT && daemon_is_stopped(link)) {
        add("its daemon (pid ", link.pid, ") is stopped: kill -CONT ", link.pid);
    } else if (error == -ETIMEDOUT) {
        add("its daemon does not answer");
        if (link.pid != 0) add(" (pid ", link.pid, ")");
    } else {
        const bool nobody = error == -ENOENT || error == -ECONNREFUSED || error == -ENOTDIR;
        add(Errno{error}, nobody ? ": is its daemon running?" : "");
    }
    return line;
}

void close_link(DaemonLink& link) {
    if (link_is_ours(link)) sys::close(link.fd);
    link.fd = -1;
}

}  // namespace aep
