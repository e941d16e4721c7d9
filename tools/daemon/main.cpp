// Purpose: aepd, the node daemon: options, log, provider, context, loop.
// Who calls it: `aep up` and `aep run`, a service manager, people.
// Crash rule: clients go on without it; the next daemon finishes what this one left.
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <optional>

#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "tools/daemon/background.hpp"
#include "tools/daemon/corosync_plug.hpp"
#include "tools/daemon/ebpf_plug.hpp"
#include "tools/daemon/kernel_plug.hpp"
#include "tools/daemon/log_limit.hpp"
#include "tools/daemon/options.hpp"
#include "tools/daemon/probe.hpp"
#include "tools/daemon/rollback_plug.hpp"
#include "tools/daemon/server.hpp"
#include "tools/daemon/torn_file.hpp"

namespace aep {
namespace {

constexpr size_t LONGEST_LOG = 16 * MiB;  // then it is renamed, and the one before that removed
constexpr int EXIT_TROUBLE = 1;
constexpr int EXIT_SERVED_ALREADY = 3;

bool log_is_file = false;

void write_line(LogLevel level, const std::string& text) {
    switch (level) {
        case LogLevel::debug:
            spdlog::debug("{}", text);
            break;
        case LogLevel::info:
            spdlog::info("{}", text);
            break;
        case LogLevel::warning:
            spdlog::warn("{}", text);
            break;
        case LogLevel::error:
            spdlog::error("{}", text);
            break;
    }
}

void log_line(LogLevel level, const std::string& text) {
    static LogLimit limit(write_line);
    limit.say(level, text, monotonic_ms());
}

void open_log(const DaemonOptions& options, const std::string& file) {
    std::shared_ptr<spdlog::logger> logger;
    log_is_file = !file.empty();
    if (file.empty()) {
        logger = std::make_shared<spdlog::logger>(
            "aepd", std::make_shared<spdlog::sinks::stderr_sink_st>());
        logger->set_pattern("aepd: %l: %v");
    } else {
        logger = std::make_shared<spdlog::logger>(
            "aepd", std::make_shared<spdlog::sinks::rotating_file_sink_st>(file, LONGEST_LOG, 1));
        logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l: %v");
        logger->flush_on(spdlog::level::debug);
    }
    logger->set_level(spdlog::level::from_str(options.log_level));
    spdlog::set_default_logger(logger);
}

/// The log's file, opened again: it may have been renamed. Standard error stays what it is, unless it leads there.
void reopen_log(const DaemonOptions& options, const std::string& file) {
    if (file.empty()) return;
    try {
        open_log(options, file);
    } catch (const std::exception& error) {
        spdlog::error("the log goes on where it is: {}: mend that, and send SIGHUP again",
                      error.what());
        return;
    }
    if (options.background) {
        const UniqueFd log(open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        leave_terminal(log.get());
    }
    spdlog::info("the log goes on here");
}

/// The directory that a file is to be made in must be there: what is misspelt is not made.
void require_directory_of(const std::string& what, const std::string& path) {
    const std::string directory = path.substr(0, path.rfind('/'));
    struct stat st {};
    if (path.rfind('/') == std::string::npos || directory.empty()) return;
    if (stat(directory.c_str(), &st) != 0) {
        throw NodeError(errno, what + " " + path + ": directory " + directory + ": " +
                                   errno_text(errno) + ": make it, or give another place");
    }
}

/// A provider, in the daemon's two views of it.
struct Plug {
    std::shared_ptr<Capture> capture = std::make_shared<NoCapture>();
    std::shared_ptr<Completion> completion = std::make_shared<NoCompletion>();
    std::string missing;  // why it is none of those that come first
};

/// The provider that --provider asks for, or the first of all that works here, started. The one
/// place that knows them all.
Plug start_provider(const DaemonOptions& options, const WatchedContext& watched) {
    Plug plug;
    const auto start = [&](const char* name, const auto& made) {
        if (plug.capture->kind() != Provider::none) return;
        if (options.provider != "auto" && options.provider != name) return;
        const std::string why = made->start(watched);
        if (why.empty()) {
            plug.capture = made;
            plug.completion = made;
        } else {
            plug.missing += (plug.missing.empty() ? "" : "; ") + std::string(name) + ": " + why;
        }
    };
    const CompleterOptions completer{.program = "", .limit_ms = options.completion_ms};
    start("kernel", std::make_shared<KernelPlug>(log_line, completer));
    start("ebpf", std::make_shared<EbpfPlug>(options.node.paths, log_line, completer));
    start("rollback", std::make_shared<RollbackPlug>(log_line, completer));
    return plug;
}

/// Recovery asks whichever completion there is once the provider has been started, or not.
class Chosen final : public Completion {
  public:
    std::shared_ptr<Completion> completion = std::make_shared<NoCompletion>();
    SlotOutcome complete(u32 slot) override { return completion->complete(slot); }
    SlotOutcome begin_operation(u32 slot) override { return completion->begin_operation(slot); }
    bool performs_here() const override { return completion->performs_here(); }
    void begin() override { completion->begin(); }
    int event_fd() const override { return completion->event_fd(); }
    void on_event() override { completion->on_event(); }
    bool fails() const override { return completion->fails(); }
};

/// The engine that --membership asks for, and which node this is by it. Null: none. Throws NodeError.
std::unique_ptr<CorosyncEngine> start_engine(const DaemonOptions& options, NodeOptions& node) {
    if (node.nodes.kind != MembershipKind::engine) return nullptr;
    auto engine = std::make_unique<CorosyncEngine>(options.fence, log_line);
    const u32 own = engine->own_node();
    if (node.nodes.node != era::NO_NODE && node.nodes.node != own) {
        throw NodeError(
            EINVAL,
            fmt::format("--node {}: corosync's id of this machine is {}: give that one, or auto",
                        node.nodes.node + 1, own + 1));
    }
    node.nodes.node = own;
    node.nodes.engine = engine.get();
    return engine;
}

int serve(const DaemonOptions& options, UniqueFd& starter) {
    const ContextPaths& paths = options.node.paths;
    if (const std::string why = missing_for(options.provider); !why.empty())
        throw NodeError(
            ENOTSUP, "no provider: " + options.provider + ": " + why + " (aep doctor says more)");
    if (!paths.own_runtime) require_directory_of("socket", paths.socket);
    if (!options.log_file.empty()) require_directory_of("log", options.log_file);
    make_private_directory(paths.directory);
    if (paths.own_runtime) {
        // Whoever owns the directory above could put another socket there.
        const std::string runtime = paths.runtime_directory();
        make_private_directory(runtime.substr(0, runtime.rfind('/')));
        make_private_directory(runtime);
    }
    const std::string log_file =
        options.log_file.empty() && options.background ? paths.log() : options.log_file;
    Chosen completion;
    NodeOptions node = options.node;
    const std::unique_ptr<CorosyncEngine> engine = start_engine(options, node);
    NodeHost host(node, completion, log_line);
    const Plug plug = start_provider(options, host.watched());
    const bool none = plug.capture->kind() == Provider::none;
    if (none && options.provider != "none") {
        if (!host.reopened()) host.remove();
        throw NodeError(ENOTSUP, "no provider: " + plug.missing + " (aep doctor says more)");
    }
    completion.completion = plug.completion;
    host.set_provider(plug.capture->kind());
    ServiceManager manager;
    std::optional<Server> server;
    try {
        open_log(options, log_file);
        server.emplace(host, *plug.capture, completion, log_line, manager,
                       [&] { reopen_log(options, log_file); });
    } catch (const std::exception&) {
        if (!host.reopened()) host.remove();
        throw;
    }
    if (none) {
        spdlog::warn(
            "provider none: a client that is killed inside an operation poisons the context; leave "
            "--provider out");
    } else if (!plug.missing.empty()) {
        spdlog::info("not the provider that would come first: {}", plug.missing);
    }
    spdlog::info("context {} {}: {}, pool {}, provider {}: {}", paths.name,
                 host.reopened() ? "continued" : "made", paths.directory, host.pool().file.path,
                 provider_name(plug.capture->kind()), protection_by(plug.capture->kind()));
    manager.say_ready();
    if (starter) {
        const UniqueFd log(open(log_file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        leave_terminal(log.get());
        tell_starter(starter, 0);
    }
    return server->run() ? 0 : EXIT_TROUBLE;
}

int run(int argc, char** argv) {
    int exit_code = 0;
    std::optional<DaemonOptions> options = parse_daemon_options(argc, argv, exit_code);
    if (!options) return exit_code;
    if (options->probe) return std::puts(probe_providers().c_str()) < 0 ? EXIT_TROUBLE : 0;
    umask(077);  // a log is its user's alone, wherever it is
    UniqueFd starter;
    if (options->background) {
        // Where a relative path leads is said by the starter's directory.
        for (std::string* path : {&options->node.pool, &options->log_file, &options->node.image}) {
            if (!path->empty() && path->front() != '/') {
                char here[PATH_MAX];
                if (getcwd(here, sizeof here) != nullptr) *path = std::string(here) + "/" + *path;
            }
        }
        starter = go_to_background();
    }
    open_log(*options, "");
    std::signal(SIGPIPE, SIG_IGN);
    survive_torn_files();
    const auto say = [&](const std::exception& error) {
        spdlog::error("{}", error.what());
        // The log may be a file by now, and whoever starts it looks at his terminal.
        if (starter && log_is_file) std::fprintf(stderr, "aepd: error: %s\n", error.what());
    };
    try {
        return serve(*options, starter);
    } catch (const NodeError& error) {
        say(error);
        exit_code = error.error() == EBUSY ? EXIT_SERVED_ALREADY : EXIT_TROUBLE;
    } catch (const std::exception& error) {
        say(error);
        exit_code = EXIT_TROUBLE;
    }
    tell_starter(starter, exit_code);
    return exit_code;
}

}  // namespace
}  // namespace aep

int main(int argc, char** argv) { return aep::run(argc, argv); }
