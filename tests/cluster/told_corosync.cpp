// A helper of the daemon's as aep-corosync is one, that sees what a test tells it: whatever comes over the socket that
// AEP_TEST_VIEWS names goes to the daemon. It ends when either of them does.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

constexpr int DAEMON = 3;  // VIEW_SOCKET of tools/corosync/view.hpp

int main() {
    const char* path = std::getenv("AEP_TEST_VIEWS");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path == nullptr || std::strlen(path) >= sizeof address.sun_path) return 1;
    std::strcpy(address.sun_path, path);
    const int test = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (connect(test, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return 1;
    pollfd waits[] = {{test, POLLIN, 0}, {DAEMON, POLLIN, 0}};
    while (poll(waits, 2, -1) > 0) {
        static char message[1 << 16];
        for (const pollfd& one : waits) {
            if (one.revents == 0) continue;
            const ssize_t got = recv(one.fd, message, sizeof message, 0);
            if (got <= 0) return 0;
            if (one.fd == test) send(DAEMON, message, static_cast<size_t>(got), MSG_NOSIGNAL);
        }
    }
    return 1;
}
