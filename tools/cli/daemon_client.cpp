// Purpose: see daemon_client.hpp.
// Who calls it: cli/*.cpp.
// Crash rule: none needed.
#include "tools/cli/daemon_client.hpp"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "node/file_lock.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "node/unique_fd.hpp"
#include "shim/context/daemon_link.hpp"

namespace aep {
namespace {

constexpr int DAEMON_SERVED_ALREADY = 3;  // exit code of aepd

/// The connection, and who is at the other end.
struct Line {
    UniqueFd fd;
    DaemonLink link;
    long error = 0;  // -errno
};

Line connect_to(const ContextPaths& paths) {
    Line line;
    line.link.usual_place = paths.own_runtime;
    line.error = -ENAMETOOLONG;
    if (paths.socket.size() < sizeof line.link.path) {
        paths.socket.copy(line.link.path, paths.socket.size());
        line.error = connect_daemon(line.link);
    }
    if (line.error == 0) line.fd = UniqueFd(line.link.fd);
    return line;
}

/// Whether something arrives within `ms`.
bool wait_for(const UniqueFd& fd, int ms) {
    pollfd wait{fd.get(), POLLIN, 0};
    const u64 end = monotonic_ms() + static_cast<u64>(ms);
    for (;;) {
        const u64 now = monotonic_ms();
        const int ready = poll(&wait, 1, now < end ? static_cast<int>(end - now) : 0);
        if (ready >= 0 || errno != EINTR) return ready != 0;
    }
}

/// Its pid: of who took the connection; or of who serves the context, as its lock says.
pid_t daemon_pid(const ContextPaths& paths, const DaemonLink& link) {
    if (link.pid != 0) return link.pid;
    std::ifstream lock(paths.lock());
    pid_t pid = 0;
    lock >> pid;
    return pid;
}

/// Why it does not answer, as far as that can be seen.
std::string silence(const ContextPaths& paths, const DaemonLink& link, int waited_ms) {
    const pid_t pid = daemon_pid(paths, link);
    const char state = pid != 0 ? state_of(pid) : '\0';
    const std::string who = pid != 0 ? fmt::format(" (pid {})", pid) : "";
    const std::string since = waited_ms != 0 ? fmt::format(" since {} s", waited_ms / 1000) : "";
    std::string text =
        fmt::format("the daemon{} of context {} does not answer{}", who, paths.name, since);
    if (state == 'T' || state == 't') {
        return fmt::format("{}: it is stopped (state {}); kill -CONT {} lets it go on", text, state,
                           pid);
    }
    if (state == '\0') return text;
    return fmt::format(
        "{}: it is busy or hangs (state {}); kill -KILL {} ends it, clients go on, and "
        "aep up starts the next one",
        text, state, pid);
}

/// An answer that is none for people: the daemon refuses the connection itself.
Json parse_answer(const std::string& text) {
    AnswerMessage refused{};
    if (text.size() == sizeof refused) {
        std::memcpy(static_cast<void*>(&refused), text.data(), sizeof refused);
        if (refused.magic == PROTOCOL_MAGIC) {
            const size_t length = strnlen(refused.text, sizeof refused.text);
            return {{"ok", false}, {"error", std::string(refused.text, length)}};
        }
    }
    return Json::parse(text, nullptr, false);
}

/// What its exit code means.
std::string why_not(int code) {
    switch (code) {
        case 2:
            return "it does not understand its options (see above)";
        case DAEMON_SERVED_ALREADY:
            return "what it is to serve is another daemon's (see above)";
        case 127:
            return "there is no such program (see above)";
        case 128:
            return "it was killed";
        default:
            return "it cannot serve (see above)";
    }
}

/// Where a daemon with these arguments writes its log.
std::string log_of(const ContextPaths& paths, const std::vector<std::string>& arguments) {
    const auto named = std::find(arguments.rbegin(), arguments.rend(), "--log-file");
    return named == arguments.rend() || named == arguments.rbegin() ? paths.log() : named[-1];
}

/// Its exit code. `aloud`: what it says of itself is heard.
int run_daemon(const std::vector<std::string>& arguments, bool aloud) {
    const pid_t child = fork();
    if (child == 0) {
        if (!aloud) dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        std::vector<char*> words;
        words.reserve(arguments.size() + 1);
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

std::optional<Json> ask_daemon(const ContextPaths& paths, const Json& request, int patience_ms) {
    Line line = connect_to(paths);
    const DaemonLink& link = line.link;
    if (line.error == -EPERM) {
        constexpr size_t PREFIX = 5;  // "aep: "
        throw NodeError(EPERM, no_answer(link, paths.name.c_str(), line.error).text() + PREFIX);
    }
    if (line.error == -ETIMEDOUT) throw NodeError(ETIMEDOUT, silence(paths, link, 0));
    const std::string text = request.dump();
    if (!line.fd) return std::nullopt;
    // One that refuses the connection has said so and gone, before or after this.
    send(line.fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    std::string answer;
    std::string piece(64 * 1024, '\0');
    for (;;) {
        if (!wait_for(line.fd, patience_ms))
            throw NodeError(ETIMEDOUT, silence(paths, link, patience_ms));
        const ssize_t got = recv(line.fd.get(), piece.data(), piece.size(), MSG_DONTWAIT);
        // A reset is told once; what was sent before it is there.
        if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ECONNRESET)) continue;
        if (got <= 0) break;
        answer.append(piece, 0, static_cast<size_t>(got));
    }
    const Json json = parse_answer(answer);
    if (!json.is_object()) return std::nullopt;
    return json;
}

std::string served_elsewhere(const ContextPaths& paths) {
    const UniqueFd lock(open(paths.lock().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!lock || !somebody_locks(lock.get(), 0)) return "";
    return fmt::format(
        "context {}: its daemon (pid {}) does not listen at {}: it is about to begin or to end, or "
        "it was started with another XDG_RUNTIME_DIR or --socket",
        paths.name, daemon_pid(paths, {}), paths.socket);
}

Json must_ask(const Target& target, const Json& request) {
    const ContextPaths& paths = target.paths;
    const std::optional<Json> answer = ask_daemon(paths, request, target.patience_ms);
    if (!answer) {
        if (const std::string who = served_elsewhere(paths); !who.empty()) {
            std::fprintf(stderr, "aep: %s\n", who.c_str());
            std::exit(EXIT_NO_DAEMON);
        }
        std::fprintf(stderr,
                     "aep: no daemon serves context %s (nothing listens at %s); start it: aep up "
                     "--context %s\n",
                     paths.name.c_str(), paths.socket.c_str(), paths.name.c_str());
        std::exit(EXIT_NO_DAEMON);
    }
    return *answer;
}

Json must_do(const Target& target, const Json& request) {
    Json answer = must_ask(target, request);
    if (answer.value("ok", false)) return answer;
    const std::string why =
        answer.value("error", "the daemon gave no answer: is it of another version than aep?");
    std::fprintf(stderr, "aep: %s\n", why.c_str());
    std::exit(EXIT_WRONG);
}

Json must_get(const Target& target, const Json& request, const char* key) {
    return must_do(target, request).at(key);
}

namespace {

/// Whether a daemon answers there. That the socket takes a connection is not enough: a process that
/// a dead daemon was just starting may still have it. Throws NodeError for one that does not
/// answer.
bool is_served(const ContextPaths& paths) {
    return ask_daemon(paths, {{"command", "ping"}}).has_value();
}

/// After a start that made the context's directory, and failed: nothing but that is there, or it stays.
void remove_traces(const ContextPaths& paths) {
    if (access(paths.context().c_str(), F_OK) == 0 || !served_elsewhere(paths).empty()) return;
    unlink(paths.lock().c_str());
    rmdir(paths.directory.c_str());
    if (paths.own_runtime) rmdir(paths.runtime_directory().c_str());
}

}  // namespace

std::string start_daemon(const ContextPaths& paths, const std::vector<std::string>& arguments,
                         bool& started) {
    started = false;
    if (is_served(paths)) return "";
    const bool was_there = access(paths.directory.c_str(), F_OK) == 0;
    // Others who start it at the same time wait here, and then find it.
    make_private_directory(paths.directory);
    const UniqueFd directory(open(paths.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while (flock(directory.get(), LOCK_EX) != 0 && errno == EINTR) {
    }
    if (is_served(paths)) return "";
    std::vector<std::string> words{daemon_program(), "--daemonize", "--context", paths.name};
    words.insert(words.end(), {"--directory", paths.directory});
    if (!paths.own_runtime) words.insert(words.end(), {"--socket", paths.socket});
    words.insert(words.end(), arguments.begin(), arguments.end());
    int code = 0;
    for (int attempt = 0; attempt < 20; ++attempt) {
        // It says so once that another one has the context.
        if (attempt == 0 || served_elsewhere(paths).empty()) {
            code = run_daemon(words, attempt == 0);  // it says the same each time
            started = code == 0;
            if (started) return "";
            if (code != DAEMON_SERVED_ALREADY) break;
        }
        // Somebody started one by hand just now and it is about to listen, or a dead one's last
        // child still has its lock for a moment.
        for (int i = 0; i < 25; ++i) {
            if (is_served(paths)) return "";
            constexpr timespec MOMENT{0, 10'000'000};
            nanosleep(&MOMENT, nullptr);
        }
    }
    std::string who = code == DAEMON_SERVED_ALREADY ? served_elsewhere(paths) : "";
    if (!who.empty()) return who;
    const std::string log = log_of(paths, arguments);
    if (!was_there) remove_traces(paths);
    return "the daemon of context " + paths.name + " did not start: " + why_not(code) +
           (access(log.c_str(), F_OK) == 0 ? "; its log: " + log : "");
}

std::string daemon_program() { return companion({"aepd", "../sbin/aepd"}, "aepd"); }

Json probe_daemon() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return {};
    const UniqueFd ours(ends[0]);
    UniqueFd theirs(ends[1]);
    const std::string program = daemon_program();
    const pid_t child = fork();
    if (child == 0) {
        dup2(theirs.get(), STDOUT_FILENO);
        execlp(program.c_str(), program.c_str(), "--probe", static_cast<char*>(nullptr));
        _exit(127);
    }
    theirs.reset();
    std::string text;
    char part[4096];
    for (ssize_t got;
         (got = read(ours.get(), part, sizeof part)) > 0 || (got < 0 && errno == EINTR);)
        if (got > 0) text.append(part, static_cast<size_t>(got));
    while (child > 0 && waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
    return Json::parse(text, nullptr, false);
}

std::string library_path() {
    constexpr const char* INSTALLED = AEP_LIBDIR "/libaepmalloc.so.1";
    return companion({"../preload/libaepmalloc.so.1", INSTALLED}, "/usr/lib/libaepmalloc.so.1");
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
