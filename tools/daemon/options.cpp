// Purpose: see options.hpp.
// Who calls it: daemon/main.cpp.
// Crash rule: none needed.
#include "tools/daemon/options.hpp"

#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <charconv>

#include "dsm-core/pool/superblock.hpp"
#include "node/image_copy.hpp"
#include "node/node_error.hpp"
#include "node/pool_terms.hpp"
#include "node/write_back.hpp"
#include "shim/context/daemon_protocol.hpp"
#include "shim/sys/environment.hpp"

namespace aep {
namespace {

/// What a size may be, and what is said of another one.
struct SizeRange {
    u64 least, most;
    bool or_zero;
    const char* expected;
};
constexpr SizeRange POOL_SIZES{MIN_POOL_BYTES, MAX_POOL_BYTES, false, "8 MiB to 8 TiB"};
constexpr SizeRange LIMITS{CHUNK_SIZE, MAX_POOL_BYTES, true, "4 MiB to 8 TiB, or 0: no limit"};
static_assert(MIN_POOL_BYTES == 8 * MiB && MAX_POOL_BYTES == 8 * TiB && CHUNK_SIZE == 4 * MiB);

/// Bytes, or with K, M, G, T.
void add_size(CLI::App& app, const char* name, std::optional<u64>& to, const SizeRange& range,
              const char* help) {
    app.add_option_function<std::string>(
           name,
           [&to, &range, name](const std::string& text) {
               usize bytes = 0;
               if (!parse_size(text.c_str(), bytes))
                   throw CLI::ValidationError(name,
                                              "'" + text + "': expected bytes, or with K, M, G, T");
               const bool fits = bytes >= range.least && bytes <= range.most;
               if (!fits && !(range.or_zero && bytes == 0))
                   throw CLI::ValidationError(name, "'" + text + "': expected " + range.expected);
               to = bytes;
           },
           help)
        ->type_name("SIZE");
}

/// What the command line says that is not yet an option of the daemon's.
struct Said {
    std::string context = DEFAULT_CONTEXT, directory, socket;
    std::optional<u64> pool_bytes;
    std::string node = "0";  // a number, or auto
    bool pacemaker = false;
    std::string caches = "auto";
    std::string membership = "auto";
};

void add_places(CLI::App& app, Said& said, NodeOptions& node) {
    app.add_option("--context", said.context, "which context, by name")
        ->type_name("NAME")
        ->envname("AEP_CONTEXT")
        ->capture_default_str();
    app.add_option("--socket", said.socket, "where it listens, instead of the usual place")
        ->type_name("PATH");
    app.add_option("--directory", said.directory,
                   "where the context's files are: a directory on tmpfs")
        ->type_name("DIR");
    app.add_option(
           "--pool", node.pool,
           "pool file or DAX device; made if --pool-size is given; default: the context's own")
        ->type_name("FILE");
    add_size(app, "--pool-size", said.pool_bytes, POOL_SIZES, "size of a new pool (default 1G)");
}

void add_limits(CLI::App& app, NodeOptions& node) {
    add_size(app, "--client-limit", node.client_limit, LIMITS,
             "bytes of chunks that a new client may hold; 0: no limit");
    add_size(app, "--context-limit", node.context_limit, LIMITS,
             "bytes of chunks that all clients may hold; 0: no limit");
    app.add_option("--max-clients", node.max_clients,
                   "entries of a new context's client table (default 1023, or as many as the pool "
                   "lets a node have)")
        ->check(CLI::Range(1u, MAX_DOMAINS - 2));
    app.add_option("--max-slots", node.max_slots, "threads of all clients of a new context")
        ->check(CLI::Range(1u, 1u << 20))
        ->capture_default_str();
    app.add_option("--decay-ms", node.decay_ms,
                   "how long an unused chunk stays before the pool gets it back")
        ->capture_default_str();
}

/// Which of the pool's nodes, from 0 on; NO_NODE: none, or the one that corosync says. Throws NodeError.
u32 node_of(const Said& said) {
    if (said.node == "auto") {
        if (said.membership != "corosync")
            throw NodeError(EINVAL,
                            "--node auto: needs --membership corosync, which numbers machines");
        return era::NO_NODE;
    }
    u32 number = 0;
    const char* const end = said.node.data() + said.node.size();
    const auto parsed = std::from_chars(said.node.data(), end, number);
    if (parsed.ec != std::errc{} || parsed.ptr != end || number > 255)
        throw NodeError(EINVAL, "--node '" + said.node + "': expected 0 to 255, or auto");
    return number == 0 ? era::NO_NODE : number - 1;
}

void add_nodes(CLI::App& app, Said& said, FenceOptions& fence) {
    app.add_option("--node", said.node,
                   "which of the pool's nodes the context is, from 1 on: then its clients share "
                   "objects with those of other nodes on the pool; auto: as corosync numbers this "
                   "machine; 0: none")
        ->type_name("NUMBER|auto");
    app.add_option("--fence-command", fence.command,
                   "with corosync: cuts a machine that is lost off from the pool; called with its "
                   "node's number, generation and host name; only if it ends with 0 the node is "
                   "recovered")
        ->type_name("COMMAND");
    app.add_option_function<std::string>(
           "--fence", [&fence](const std::string& who) { fence.pacemaker = who == "pacemaker"; },
           "with corosync, instead of a command: pacemaker fences the machine")
        ->check(CLI::IsMember({"pacemaker"}));
    app.add_option("--fence-ms", fence.limit_ms, "how long that may take, then it is tried again")
        ->check(CLI::Range(u64{100}, u64{3'600'000}))
        ->capture_default_str();
    app.add_option("--membership", said.membership,
                   "who says that a silent node is dead: lock (the locks of this system), manual "
                   "(people: aep node dead), corosync; auto: lock for nodes of this system, manual "
                   "for others")
        ->check(CLI::IsMember({"auto", "lock", "manual", "corosync"}))
        ->capture_default_str();
    app.add_option("--pool-caches", said.caches,
                   "whether lines that nodes share are flushed: coherent (one machine), cxl, or "
                   "auto (cxl for a DAX device or file)")
        ->check(CLI::IsMember({"auto", "coherent", "cxl"}))
        ->capture_default_str();
}

/// What a pool that is there has already, and a new one gets.
void add_terms(CLI::App& app, PoolTerms& terms) {
    app.add_option("--lease-ms", terms.lease_ms,
                   "of a new pool: a node that gives no sign of life for so long is suspect "
                   "(default 3000)")
        ->check(CLI::Range(MIN_LEASE_MS, MAX_LEASE_MS));
    app.add_option_function<std::string>(
           "--cluster", [&terms](const std::string& name) { set_cluster(terms, name); },
           "of a new pool: whose it is; one that is there must be that one's")
        ->type_name("NAME");
    app.add_option_function<std::string>(
           "--coherent", [&terms](const std::string& word) { set_coherence(terms, word); },
           "of a new pool: whether caches of all machines that map it are kept coherent; must be "
           "said of a device")
        ->type_name("yes|no");
}

void add_service(CLI::App& app, DaemonOptions& options) {
    app.add_option("--image", options.node.image,
                   "the image's file; default: the one installed with it")
        ->type_name("FILE");
    app.add_flag("--verify", options.node.verify,
                 "walk the heap of each dead client, report what is broken");
    app.add_option(
           "--provider", options.provider,
           "what keeps the operation of a killed thread whole: kernel and ebpf complete it, "
           "rollback undoes it and needs no privilege; auto: the first that works; none: "
           "nothing, for tests")
        ->check(CLI::IsMember({"auto", "kernel", "ebpf", "rollback", "none"}))
        ->capture_default_str();
    app.add_option("--completion-ms", options.completion_ms,
                   "an operation of a killed thread that takes longer to complete is given up")
        ->check(CLI::Range(u64{10}, u64{3'600'000}))
        ->capture_default_str();
    app.add_flag("--probe", options.probe,
                 "say in JSON what each provider lacks here, and do nothing else");
    app.add_flag("--daemonize", options.background,
                 "return when it serves, and go on in the background");
    app.add_option("--log-level", options.log_level, "debug, info, warning, error or off")
        ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}))
        ->capture_default_str();
    app.add_option("--log-file", options.log_file,
                   "default: standard error; in the background `log` beside the socket")
        ->type_name("FILE");
}

/// What follows from what was said. Throws NodeError.
void settle(const Said& said, NodeOptions& node) {
    node.paths = context_paths(said.context, said.directory, said.socket);
    node.nodes.kind = said.membership == "lock"       ? MembershipKind::lock
                      : said.membership == "manual"   ? MembershipKind::manual
                      : said.membership == "corosync" ? MembershipKind::engine
                                                      : MembershipKind::automatic;
    node.nodes.node = node_of(said);
    const bool is_node = node.nodes.node != era::NO_NODE || said.node == "auto";
    if (node.nodes.kind == MembershipKind::engine && !is_node)
        throw NodeError(EINVAL, "--membership corosync: is about nodes: give --node auto");
    // A context that had a named pool before has a link to it.
    struct stat pool {};
    if (is_node && node.pool.empty() &&
        (lstat(node.paths.pool().c_str(), &pool) != 0 || !S_ISLNK(pool.st_mode)))
        throw NodeError(EINVAL, "--node: which pool the nodes share is not said: give --pool");
    if (said.caches == "coherent") node.nodes.caches = era::PoolCaches::coherent;
    if (said.caches == "cxl") node.nodes.caches = written_back();
    node.pool_bytes = said.pool_bytes.value_or(0);
    if (node.image.empty()) node.image = default_image_path();
}

}  // namespace

std::optional<DaemonOptions> parse_daemon_options(int argc, char** argv, int& exit_code) {
    CLI::App app(
        "The node daemon: makes a context that processes share their heap in, lets them in, and "
        "takes back what dead ones held.",
        "aepd");
    DaemonOptions options;
    Said said;
    app.set_version_flag("--version", std::string("aepd ") + AEP_VERSION);
    add_places(app, said, options.node);
    add_limits(app, options.node);
    add_nodes(app, said, options.fence);
    add_terms(app, options.node.terms);
    add_service(app, options);
    try {
        app.parse(argc, argv);
        if (!options.probe) settle(said, options.node);  // that is of no context
        return options;
    } catch (const CLI::ParseError& error) {
        exit_code = app.exit(error) == 0 ? 0 : 2;
    } catch (const NodeError& error) {
        std::fprintf(stderr, "aepd: %s\n", error.what());
        exit_code = 2;
    }
    return std::nullopt;
}

}  // namespace aep
