// Purpose: see options.hpp.
// Who calls it: daemon/main.cpp.
// Crash rule: none needed.
#include "tools/daemon/options.hpp"

#include <CLI/CLI.hpp>

#include "shim/environment.hpp"
#include "tools/node/image_copy.hpp"
#include "tools/node/node_error.hpp"

namespace aep {
namespace {

/// Bytes, or with K, M, G, T.
void add_size(CLI::App& app, const char* name, std::optional<u64>& to, const char* help) {
    app.add_option_function<std::string>(
           name,
           [&to, name](const std::string& text) {
               usize bytes = 0;
               if (!parse_size(text.c_str(), bytes)) {
                   throw CLI::ValidationError(name,
                                              "'" + text + "': expected bytes, or with K, M, G, T");
               }
               to = bytes;
           },
           help)
        ->type_name("SIZE");
}

}  // namespace

std::optional<DaemonOptions> parse_daemon_options(int argc, char** argv, int& exit_code) {
    CLI::App app(
        "The node daemon: makes a context that processes share their heap in, lets them in, and "
        "takes back what dead ones held.",
        "aepd");
    DaemonOptions options;
    NodeOptions& node = options.node;
    std::string name = DEFAULT_CONTEXT, directory, socket;
    std::optional<u64> pool_bytes;
    app.set_version_flag("--version", std::string("aepd ") + AEP_VERSION);
    app.add_option("--context", name, "which context, by name")
        ->type_name("NAME")
        ->envname("AEP_CONTEXT")
        ->capture_default_str();
    app.add_option("--socket", socket, "where it listens, instead of the usual place")
        ->type_name("PATH");
    app.add_option("--directory", directory, "where the context's files are: a directory on tmpfs")
        ->type_name("DIR");
    app.add_option("--pool", node.pool, "pool file, made if missing; default: the context's own")
        ->type_name("FILE");
    add_size(app, "--pool-size", pool_bytes, "size of a new pool (default 1G)");
    add_size(app, "--client-limit", node.client_limit,
             "bytes of chunks that a new client may hold; 0: no limit");
    add_size(app, "--context-limit", node.context_limit,
             "bytes of chunks that all clients may hold; 0: no limit");
    app.add_option("--max-clients", node.max_clients, "entries of a new context's client table")
        ->check(CLI::Range(1u, MAX_DOMAINS - 2))
        ->capture_default_str();
    app.add_option("--max-slots", node.max_slots, "threads of all clients of a new context")
        ->check(CLI::Range(1u, 1u << 20))
        ->capture_default_str();
    app.add_option("--decay-ms", node.decay_ms,
                   "how long an unused chunk stays before the pool gets it back")
        ->capture_default_str();
    app.add_option("--image", node.image, "the image's file; default: the one installed with it")
        ->type_name("FILE");
    app.add_flag("--verify", node.verify,
                 "walk the heap of each dead client, report what is broken");
    app.add_option("--provider", options.provider,
                   "who completes operations of killed threads: auto, ebpf or none")
        ->check(CLI::IsMember({"auto", "ebpf", "none"}))
        ->capture_default_str();
    app.add_flag("--require-provider", options.require_provider, "do not run without a provider");
    app.add_flag("--daemonize", options.background,
                 "return when it serves, and go on in the background");
    app.add_option("--log-level", options.log_level, "debug, info, warning, error or off")
        ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}))
        ->capture_default_str();
    app.add_option("--log-file", options.log_file,
                   "default: standard error; in the background `log` beside the socket")
        ->type_name("FILE");
    try {
        app.parse(argc, argv);
        node.paths = context_paths(name, directory, socket);
    } catch (const CLI::ParseError& error) {
        exit_code = app.exit(error) == 0 ? 0 : 2;
        return std::nullopt;
    } catch (const NodeError& error) {
        std::fprintf(stderr, "aepd: %s\n", error.what());
        exit_code = 2;
        return std::nullopt;
    }
    node.pool_bytes = pool_bytes.value_or(0);
    if (node.image.empty()) node.image = default_image_path();
    return options;
}

}  // namespace aep
