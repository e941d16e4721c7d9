// Purpose: see background.hpp.
// Who calls it: daemon/main.cpp.
// Crash rule: see background.hpp.
#include "tools/daemon/background.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace aep {

UniqueFd go_to_background() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        std::perror("aepd: pipe");
        std::_Exit(1);
    }
    const pid_t child = fork();
    if (child < 0) {
        std::perror("aepd: fork");
        std::_Exit(1);
    }
    if (child != 0) {
        close(ends[1]);
        unsigned char code = 1;
        if (read(ends[0], &code, 1) != 1) std::fprintf(stderr, "aepd: it ended before it served\n");
        std::_Exit(code);
    }
    close(ends[0]);
    setsid();
    // A session leader could get a terminal again.
    if (const pid_t again = fork(); again != 0) std::_Exit(again < 0 ? 1 : 0);
    if (chdir("/") != 0) std::perror("aepd: chdir");
    return UniqueFd(ends[1]);
}

void tell_starter(UniqueFd& starter, int exit_code) {
    const unsigned char code = static_cast<unsigned char>(exit_code);
    if (starter && write(starter.get(), &code, 1) != 1) std::perror("aepd: starter");
    starter.reset();
}

void leave_terminal(int log_fd) {
    const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    dup2(null.get(), 0);
    dup2(null.get(), 1);
    dup2(log_fd >= 0 ? log_fd : null.get(), 2);
}

void notify_service_manager() {
    const char* path = std::getenv("NOTIFY_SOCKET");
    sockaddr_un to{};
    if (path == nullptr || std::strlen(path) >= sizeof to.sun_path) return;
    to.sun_family = AF_UNIX;
    std::memcpy(to.sun_path, path, std::strlen(path));
    if (path[0] == '@') to.sun_path[0] = '\0';
    const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const socklen_t length =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
    constexpr char READY[] = "READY=1";
    sendto(fd.get(), READY, sizeof READY - 1, MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&to),
           length);
}

}  // namespace aep
