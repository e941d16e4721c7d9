// Purpose: runs a program, and all that it starts, that is told by statx that the files in folders named "dax" are mapped past
//          the page cache, as the files of fsdax, famfs and virtiofs are; and that those in "dax/fixed" can neither be made
//          longer nor get holes, as those of famfs. The rest is the kernel's: what cannot be had without such memory is that
//          its pages are other machines', too.
// Who calls it: tests/sharing/dax_files.py.
// Crash rule: the program ends with it; what the program has left behind finds that these calls are unknown.
//
//     told_dax PROGRAM ARGUMENT...     the exit status is the program's; 77: this system does not let calls be answered for others
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

/// The descriptor by which the calls below come that this process makes from now on; -1: not here.
int ask_for_calls() {
    constexpr unsigned NUMBER = offsetof(seccomp_data, nr);
    constexpr unsigned FLAGS = offsetof(seccomp_data, args) + 2 * sizeof(unsigned long long);
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NUMBER),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ftruncate, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_statx, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FLAGS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AT_EMPTY_PATH, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog program{sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return static_cast<int>(
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
}

/// The path that a descriptor of a process leads to.
std::string path_of(pid_t process, unsigned long long fd) {
    char link[64], path[PATH_MAX];
    std::snprintf(link, sizeof link, "/proc/%d/fd/%d", process, static_cast<int>(fd));
    const ssize_t length = readlink(link, path, sizeof path);
    return length > 0 ? std::string(path, static_cast<size_t>(length)) : std::string();
}

/// Answers a statx of what a descriptor leads to, with the attribute. False: the kernel is to do it.
bool answer_statx(const seccomp_notif& call) {
    const pid_t process = static_cast<pid_t>(call.pid);
    char name[64];
    std::snprintf(name, sizeof name, "/proc/%d/mem", process);
    const int memory = open(name, O_RDWR | O_CLOEXEC);
    if (memory < 0) return false;
    std::snprintf(name, sizeof name, "/proc/%d/fd/%d", process,
                  static_cast<int>(call.data.args[0]));
    struct statx facts {};
    char first = 1;
    const bool done =
        pread(memory, &first, 1, static_cast<off_t>(call.data.args[1])) == 1 && first == '\0' &&
        statx(AT_FDCWD, name, 0, static_cast<unsigned>(call.data.args[3]), &facts) == 0 &&
        S_ISREG(facts.stx_mode) && (facts.stx_attributes |= STATX_ATTR_DAX) != 0 &&
        pwrite(memory, &facts, sizeof facts, static_cast<off_t>(call.data.args[4])) ==
            static_cast<ssize_t>(sizeof facts);
    close(memory);
    return done;
}

void answer(int listener) {
    union {
        seccomp_notif call;
        char room[512];  // of a kernel that tells more
    } asked{};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) return;  // it has ended meanwhile
    const seccomp_notif& call = asked.call;
    seccomp_notif_resp response{};
    response.id = call.id;
    response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    const std::string path = path_of(static_cast<pid_t>(call.pid), call.data.args[0]);
    const bool resizes = call.data.nr != SYS_statx;
    if (resizes && path.find("/dax/fixed/") != std::string::npos) {
        response.flags = 0;
        response.error = -EOPNOTSUPP;
    } else if (!resizes && path.find("/dax/") != std::string::npos && answer_statx(call)) {
        response.flags = 0;
    }
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

bool send_fd(int socket, int fd) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
    char byte = 0;
    iovec part{&byte, 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(socket, &message, 0) == 1;
}

/// -1: none came.
int receive_fd(int socket) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    char byte = 0;
    iovec part{&byte, 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return -1;
    const cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (header == nullptr) return -1;
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

}  // namespace

int main(int argc, char** argv) {
    int ends[2];
    if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return 125;
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(125);
        const int listener = ask_for_calls();
        if (listener < 0 || !send_fd(ends[1], listener)) _exit(77);
        close(listener);
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    close(ends[1]);
    const int listener = receive_fd(ends[0]);
    if (listener < 0) {
        std::printf("CANNOT RUN: told_dax: no calls can be answered for other processes here\n");
        waitpid(child, nullptr, 0);
        return 77;
    }
    const int ended = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
    pollfd wanted[2] = {{listener, POLLIN, 0}, {ended, POLLIN, 0}};
    while (poll(wanted, 2, -1) >= 0 || errno == EINTR) {
        if ((wanted[0].revents & POLLIN) != 0) answer(listener);
        if (wanted[1].revents != 0) break;
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
