// Purpose: see daemon_client.hpp.
// Who calls it: cli/*.cpp.
// Crash rule: none needed.
#include "tools/cli/daemon_client.hpp"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "tools/node/node_error.hpp"
#include "tools/node/unique_fd.hpp"

namespace aep {
namespace {

constexpr int DAEMON_SERVED_ALREADY = 3;  // exit code of aepd

UniqueFd connect_to(const std::string& path) {
    UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    if (path.size() >= sizeof to.sun_path) return {};
    path.copy(to.sun_path, path.size());
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) fd.reset();
    return fd;
}

int run_daemon(const std::vector<std::string>& arguments) {
    const pid_t child = fork();
    if (child == 0) {
        // Its tables lie where our library has its heap.
        setenv("LD_PRELOAD", preload_without_us().c_str(), 1);
        std::vector<char*> words;
        for (const std::string& word : arguments) words.push_back(const_cast<char*>(word.c_str()));
        words.push_back(nullptr);
        execvp(words[0], words.data());
        std::fprintf(stderr, "aep: cannot start %s: %s\n", words[0], errno_text(errno).c_str());
        _exit(127);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

}  // namespace

std::optional<Json> ask_daemon(const ContextPaths& paths, const Json& request) {
    const UniqueFd fd = connect_to(paths.socket);
    const std::string text = request.dump();
    if (!fd || send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) return std::nullopt;
    std::string answer;
    std::string piece(64 * 1024, '\0');
    for (;;) {
        const ssize_t got = recv(fd.get(), piece.data(), piece.size(), 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        answer.append(piece, 0, static_cast<size_t>(got));
    }
    const Json json = Json::parse(answer, nullptr, false);
    if (json.is_discarded()) return std::nullopt;
    return json;
}

Json must_ask(const ContextPaths& paths, const Json& request) {
    const std::optional<Json> answer = ask_daemon(paths, request);
    if (!answer) {
        std::fprintf(stderr,
                     "aep: no daemon serves context %s (nothing listens at %s); start it: aep up "
                     "--context %s\n",
                     paths.name.c_str(), paths.socket.c_str(), paths.name.c_str());
        std::exit(EXIT_NO_DAEMON);
    }
    return *answer;
}

namespace {

/// Whether a daemon answers there. That the socket takes a connection is not enough: a process that
/// a dead daemon was just starting may still have it. One that is stopped counts as there.
bool is_served(const ContextPaths& paths) {
    constexpr int PATIENCE_MS = 2000;
    const UniqueFd fd = connect_to(paths.socket);
    const std::string text = Json{{"command", "ping"}}.dump();
    if (!fd || send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) return false;
    pollfd wait{fd.get(), POLLIN, 0};
    int ready;
    do {
        ready = poll(&wait, 1, PATIENCE_MS);
    } while (ready < 0 && errno == EINTR);
    char byte;
    return ready == 0 || recv(fd.get(), &byte, 1, 0) > 0;
}

}  // namespace

std::string start_daemon(const ContextPaths& paths, const std::vector<std::string>& arguments,
                         bool& started) {
    started = false;
    if (is_served(paths)) return "";
    // Others who start it at the same time wait here, and then find it.
    make_private_directory(paths.directory);
    const UniqueFd directory(open(paths.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while (flock(directory.get(), LOCK_EX) != 0 && errno == EINTR) {
    }
    if (is_served(paths)) return "";
    std::vector<std::string> words{companion({"aepd", "../sbin/aepd"}, "aepd"), "--daemonize",
                                   "--context", paths.name};
    words.insert(words.end(), {"--directory", paths.directory});
    if (!paths.own_runtime) words.insert(words.end(), {"--socket", paths.socket});
    words.insert(words.end(), arguments.begin(), arguments.end());
    for (int attempt = 0; attempt < 20; ++attempt) {
        const int code = run_daemon(words);
        started = code == 0;
        if (started) return "";
        if (code != DAEMON_SERVED_ALREADY) break;
        // Somebody started one by hand just now and it is about to listen, or a dead one's last
        // child still has its lock for a moment.
        for (int i = 0; i < 25; ++i) {
            if (is_served(paths)) return "";
            constexpr timespec MOMENT{0, 10'000'000};
            nanosleep(&MOMENT, nullptr);
        }
    }
    return "the daemon of context " + paths.name + " did not start";
}

std::string library_path() {
    constexpr const char* INSTALLED = AEP_LIBDIR "/libaepmalloc.so";
    return companion({"../preload/libaepmalloc.so", INSTALLED}, "/usr/lib/libaepmalloc.so");
}

std::string preload_without_us() {
    const char* before = std::getenv("LD_PRELOAD");
    std::string all(before != nullptr ? before : ""), kept;
    for (char& c : all) c = c == ':' ? ' ' : c;
    std::istringstream words(all);
    for (std::string word; words >> word;) {
        if (word.find("libaepmalloc") != std::string::npos) continue;
        kept += (kept.empty() ? "" : ":") + word;
    }
    return kept;
}

}  // namespace aep
