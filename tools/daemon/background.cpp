// Purpose: see background.hpp.
// Who calls it: daemon/main.cpp.
// Crash rule: see background.hpp.
#include "tools/daemon/background.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
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
        if (read(ends[0], &code, 1) != 1)
            std::fprintf(stderr,
                         "aepd: it ended before it served; was it killed? See the system's log\n");
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

namespace {

constexpr u64 US_PER_MS = 1000;

/// A number of the environment; 0: there is none.
u64 number_of(const char* variable) {
    const char* const text = std::getenv(variable);
    u64 value = 0;
    if (text == nullptr) return 0;
    const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
    return error == std::errc{} && *end == '\0' ? value : 0;
}

}  // namespace

ServiceManager::ServiceManager() {
    const u64 whose = number_of("WATCHDOG_PID");
    if (whose == 0 || whose == static_cast<u64>(getpid()))
        watchdog_ms_ = number_of("WATCHDOG_USEC") / US_PER_MS;
}

void ServiceManager::say_ready() { say("READY=1"); }

u64 ServiceManager::period_ms() const {
    constexpr u64 SIGNS = 3;
    return watchdog_ms_ == 0 ? ~u64{0} : std::max<u64>(watchdog_ms_ / SIGNS, 1);
}

void ServiceManager::say_alive(u64 now_ms) {
    if (watchdog_ms_ == 0 || (said_ms_ != 0 && now_ms - said_ms_ < period_ms() / 2)) return;
    said_ms_ = now_ms;
    say("WATCHDOG=1");
}

void ServiceManager::say(const char* what) const {
    const char* path = std::getenv("NOTIFY_SOCKET");
    sockaddr_un to{};
    if (path == nullptr || std::strlen(path) >= sizeof to.sun_path) return;
    to.sun_family = AF_UNIX;
    std::memcpy(to.sun_path, path, std::strlen(path));
    if (path[0] == '@') to.sun_path[0] = '\0';
    const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const socklen_t length =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
    sendto(fd.get(), what, std::strlen(what), MSG_NOSIGNAL | MSG_DONTWAIT,
           reinterpret_cast<sockaddr*>(&to), length);
}

}  // namespace aep
