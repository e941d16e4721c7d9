// Purpose: see metrics.hpp.
// Who calls it: see metrics.hpp.
// Crash rule: see metrics.hpp.
#include "tools/cli/metrics.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <microhttpd.h>
#include <netdb.h>
#include <prometheus/text_serializer.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>

#include "dsm-core/base/types.hpp"
#include "node/node_error.hpp"
#include "node/unique_fd.hpp"
#include "tools/cli/metric_families.hpp"

namespace aep {
namespace {

constexpr const char* FORMAT = "text/plain; version=0.0.4; charset=utf-8";
constexpr unsigned MOST_SCRAPERS = 16;  // at the same time
constexpr unsigned PATIENCE_S = 10;     // with one that says nothing
constexpr int BACKLOG = 16;

std::string text_of(const Target& target) {
    Json answer;
    try {
        const auto said = ask_daemon(target.paths, {{"command", "top"}}, target.patience_ms);
        if (said && said->value("ok", false)) answer = *said;
    } catch (const NodeError&) {
        // One that is stopped, or another user's, is not up either.
    }
    return prometheus::TextSerializer().Serialize(metric_families(target.paths.name, answer));
}

[[noreturn]] void cannot_listen(const std::string& where, const std::string& why, int error) {
    throw NodeError(error, "--listen " + where + ": " + why);
}

/// Only a socket that nobody listens at is replaced.
UniqueFd listen_at_path(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        cannot_listen(path, "longer than a socket's name may be", EINVAL);
    path.copy(address.sun_path, path.size());
    const auto* const plain = reinterpret_cast<const sockaddr*>(&address);
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    struct stat file {};
    if (lstat(path.c_str(), &file) == 0 && S_ISSOCK(file.st_mode) &&
        connect(fd.get(), plain, sizeof address) != 0 && errno == ECONNREFUSED)
        unlink(path.c_str());
    fd = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    umask(077);
    if (bind(fd.get(), plain, sizeof address) != 0 || listen(fd.get(), BACKLOG) != 0)
        cannot_listen(path, errno_text(errno), errno);
    return fd;
}

UniqueFd listen_at_port(const std::string& where) {
    const size_t colon = where.rfind(':');
    std::string host = colon == std::string::npos ? "127.0.0.1" : where.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']')
        host = host.substr(1, host.size() - 2);
    const std::string port = colon == std::string::npos ? where : where.substr(colon + 1);
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    u16 number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    const bool sound = error == std::errc{} && end == port.data() + port.size() && number != 0;
    if (!sound || host.empty() || getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0)
        cannot_listen(where, "neither a port, nor ADDRESS:PORT, nor the path of a socket", EINVAL);
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> address(found, freeaddrinfo);
    UniqueFd fd(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0 || listen(fd.get(), BACKLOG) != 0)
        cannot_listen(where, errno_text(errno), errno);
    return fd;
}

/// One request; `target` is what whom to ask.
MHD_Result answer_request(void* target, MHD_Connection* connection, const char* url,
                          const char* method, const char*, const char*, size_t*, void**) {
    std::string body = "the metrics are at /metrics\n";
    unsigned code = MHD_HTTP_NOT_FOUND;
    if (std::strcmp(method, MHD_HTTP_METHOD_GET) != 0) {
        code = MHD_HTTP_METHOD_NOT_ALLOWED;
    } else if (std::strcmp(url, "/metrics") == 0) {
        body = text_of(*static_cast<const Target*>(target));
        code = MHD_HTTP_OK;
    }
    MHD_Response* const response =
        MHD_create_response_from_buffer(body.size(), body.data(), MHD_RESPMEM_MUST_COPY);
    if (response == nullptr) return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                            code == MHD_HTTP_OK ? FORMAT : "text/plain");
    const MHD_Result queued = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return queued;
}

void serve(const Target& target, UniqueFd socket) {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, nullptr);  // before there is another thread
    MHD_Daemon* const http =
        MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, 0, nullptr, nullptr, answer_request,
                         const_cast<Target*>(&target), MHD_OPTION_LISTEN_SOCKET, socket.get(),
                         MHD_OPTION_CONNECTION_LIMIT, MOST_SCRAPERS, MHD_OPTION_CONNECTION_TIMEOUT,
                         PATIENCE_S, MHD_OPTION_END);
    if (http == nullptr)
        throw NodeError(errno, "the HTTP server does not start: " + errno_text(errno));
    static_cast<void>(socket.release());  // MHD_stop_daemon closes it
    int number = 0;
    sigwait(&ends, &number);
    MHD_stop_daemon(http);
}

}  // namespace

int metrics(const Target& target, const std::string& listen) {
    if (listen.empty()) {
        must_ask(target, {{"command", "ping"}});  // exits, and says why, if there is no daemon
        return std::fputs(text_of(target).c_str(), stdout) < 0 ? EXIT_WRONG : 0;
    }
    const bool path = listen.find('/') != std::string::npos;
    serve(target, path ? listen_at_path(listen) : listen_at_port(listen));
    if (path) unlink(listen.c_str());
    return 0;
}

}  // namespace aep
