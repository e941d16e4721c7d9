// Purpose: aep, the command line: parses, then leads to commands.cpp.
// Who calls it: people, scripts, ./aep.
// Crash rule: none needed.
#include <signal.h>
#include <CLI/CLI.hpp>

#include "node/node_error.hpp"
#include "node/pool_terms.hpp"
#include "shim/context/daemon_protocol.hpp"
#include "shim/sys/careful.hpp"
#include "shim/sys/environment.hpp"
#include "tools/cli/client_order.hpp"
#include "tools/cli/commands.hpp"
#include "tools/cli/drain.hpp"
#include "tools/cli/metrics.hpp"
#include "tools/cli/objects.hpp"
#include "tools/cli/pool.hpp"
#include "tools/cli/profile.hpp"
#include "tools/cli/top.hpp"

namespace aep {
namespace {

/// Of the environment; not set and empty are the same.
std::string variable(const char* name, const char* otherwise) {
    const char* const value = std::getenv(name);
    return value != nullptr && *value != '\0' ? value : otherwise;
}

class CommandLine {
  public:
    CommandLine() {
        app_.set_version_flag("--version", std::string("aep ") + AEP_VERSION);
        app_.require_subcommand(1);
        app_.set_help_all_flag("--help-all", "this text and that of every command");
        app_.footer(
            "Exit status: 0 good; 1 something is wrong; 2 no daemon, or not understood.\n"
            "aep status: 3 poisoned; 4 fenced; 5 this node, or another one, is suspect.\n"
            "AEP_CONTEXT names the context when --context does not. More: man aep");
        make_run();
        make_others();
        make_pool_commands();
        make_node_commands();
        make_profile();
    }

    int parse_and_run(int argc, char** argv) {
        try {
            app_.parse(argc, argv);
            if (!app_.got_subcommand("pool"))
                target_.paths = context_paths(name_, directory_, socket_);
            if (timeout_s_) target_.patience_ms = static_cast<int>(*timeout_s_ * 1000);
            return action_();
        } catch (const CLI::ParseError& error) {
            return app_.exit(error) == 0 ? 0 : 2;
        } catch (const NodeError& error) {
            std::fprintf(stderr, "aep: %s\n", error.what());
            return error.error() == EINVAL ? 2 : 1;
        } catch (const Json::exception& error) {
            std::fprintf(
                stderr,
                "aep: the daemon's answer is not understood (%s): is it of another version "
                "than this program?\n",
                error.what());
            return 1;
        } catch (const std::exception& error) {
            std::fprintf(stderr, "aep: %s\n", error.what());
            return 1;
        }
    }

  private:
    CLI::App* command(const char* name, const char* help, std::function<int()> action,
                      bool json = true, CLI::App* of = nullptr) {
        CLI::App* sub = (of != nullptr ? of : &app_)->add_subcommand(name, help);
        // Not CLI11's envname(): what one command was told, the variable would take from it again
        // by way of the others.
        sub->add_option("--context", name_, "which context, by name (env AEP_CONTEXT)")
            ->type_name("NAME")
            ->capture_default_str();
        sub->add_option("--socket", socket_,
                        "the daemon's socket, instead of the usual place (env AEP_SOCKET)")
            ->type_name("PATH");
        sub->add_option("--directory", directory_, "the context's files, instead of /dev/shm/...")
            ->type_name("DIR");
        if (json) sub->add_flag("--json", target_.json, "print JSON");
        sub->add_option("--timeout", timeout_s_,
                        "seconds that the daemon may take for an answer (default 5; check: 60)")
            ->type_name("SECONDS")
            ->check(CLI::Range(0.1, 86400.0));
        sub->callback([this, action = std::move(action)] { action_ = action; });
        return sub;
    }

    /// Options that a daemon is given when it is started.
    void add_daemon_options(CLI::App* sub) {
        constexpr const char* GROUP = "For the daemon, if it is started";
        const auto pass = [&](const char* name, const char* type, const char* help) {
            sub->add_option_function<std::string>(
                   name,
                   [this, name](const std::string& value) {
                       daemon_.words.push_back(name);
                       daemon_.words.push_back(value);
                   },
                   help)
                ->type_name(type)
                ->group(GROUP);
        };
        pass("--pool", "FILE",
             "pool file or DAX device; made if --pool-size is given; default: the context's own");
        pass("--pool-size", "SIZE", "size of a new pool: bytes, or with K, M, G, T (default 1G)");
        pass("--node", "NUMBER|auto",
             "which of the pool's nodes the context is, from 1 on, to share objects with others");
        pass("--lease-ms", "MS",
             "of a new pool: a node that gives no sign of life for so long is suspect");
        pass("--cluster", "NAME",
             "of a new pool: whose it is; one that is there must be that one's");
        pass("--coherent", "yes|no",
             "of a new pool: whether caches of all machines that map it are kept coherent");
        pass("--membership", "auto|lock|manual|corosync", "who says that a silent node is dead");
        pass("--fence-command", "COMMAND", "with corosync: cuts a machine that is lost off");
        pass("--fence", "pacemaker", "with corosync: who does that, instead of a command");
        pass("--fence-ms", "MS", "how long that may take (default 60000)");
        pass("--pool-caches", "auto|coherent|cxl", "whether lines that nodes share are flushed");
        pass("--client-limit", "SIZE", "memory that one client may hold");
        pass("--context-limit", "SIZE", "memory that all clients may hold");
        pass("--provider", "auto|kernel|ebpf|rollback|none",
             "what keeps the operation of a killed thread whole");
        pass("--image", "FILE", "the image's file");
        pass("--log-level", "LEVEL", "debug, info, warning, error or off");
        pass("--log-file", "FILE", "default: `log` beside the socket");
        sub->add_flag_callback(
               "--verify", [this] { daemon_.words.push_back("--verify"); },
               "walk the heap of each dead client, report what is broken")
            ->group(GROUP);
    }

    void make_run() {
        CLI::App* sub = command(
            "run", "run a program on the context's heap; starts the daemon when it is missing",
            [this] { return run_program(target_, daemon_, run_); }, false);
        sub->add_option("program", run_.program, "the program and its arguments, after --")
            ->required();
        sub->positionals_at_end();
        sub->add_flag("--stats", run_.stats, "print what the heap did when the process exits");
        sub->add_flag("--background", run_.background,
                      "give freed memory back although the program calls nothing");
        sub->add_flag("--require", run_.require,
                      "fail rather than run on private memory when it cannot join");
        sub->add_option("--library", run_.library, "libaepmalloc.so to use")->type_name("FILE");
        add_daemon_options(sub);
    }

    void make_top() {
        CLI::App* sub = command("top", "status, rates and clients, again and again",
                                [this] { return show_top(target_, top_); });
        sub->add_option("--interval", top_.interval_s, "seconds between frames")
            ->check(CLI::Range(0.05, 3600.0))
            ->capture_default_str();
        sub->add_option("--count", top_.count, "frames; 0: until it is ended (key q)")
            ->capture_default_str();
        std::vector<std::string> orders;
        for (const ClientOrder& order : client_orders()) orders.emplace_back(order.name);
        sub->add_option("--sort", top_.sort, "which clients come first")
            ->check(CLI::IsMember(orders))
            ->capture_default_str();
        sub->add_option("--filter", top_.filter, "only clients with that in their name")
            ->type_name("TEXT");
    }

    void make_metrics() {
        CLI::App* sub = command(
            "metrics", "all counters, as Prometheus and OpenTelemetry collectors read them",
            [this] { return metrics(target_, listen_); }, false);
        sub->add_option("--listen", listen_,
                        "serve them by HTTP at /metrics until it is ended: a port of this machine "
                        "(9753), HOST:PORT, or the path of a socket; default: print them once")
            ->type_name("WHERE");
    }

    void make_others() {
        add_daemon_options(command(
            "up", "start the daemon", [this] { return up(target_, daemon_); }));
        command(
            "down", "end the daemon and remove the context",
            [this] { return down(target_, force_); })
            ->add_flag("--force", force_, "although clients live: they keep what they have");
        const auto add_over = [this](CLI::App* sub) {
            sub->add_option("--over", over_s_,
                            "wait so many seconds, and say what happened a second meanwhile")
                ->type_name("SECONDS")
                ->check(CLI::Range(0.05, 3600.0));
        };
        add_over(command(
            "status", "what the context is and holds",
            [this] { return show_status(target_, over_s_); }));
        add_over(command(
            "clients", "the processes that share it",
            [this] { return show_clients(target_, over_s_); }));
        command("objects", "who holds what of whom: the largest shared objects, and each client's",
                [this] { return show_objects(target_, most_objects_); })
            ->add_option("--most", most_objects_, "how many objects to name")
            ->type_name("N")
            ->check(CLI::Range(u64{0}, u64{10'000}))
            ->capture_default_str();
        make_top();
        make_metrics();
        command(
            "check", "walk all invariants; exit status 1 if something is wrong",
            [this] {
                // It walks all that is there.
                if (!timeout_s_) target_.patience_ms = 12 * USUAL_PATIENCE_MS;
                return check(target_);
            });
        command(
            "recover", "take back now what dead clients held", [this] { return recover(target_); });
        command("doctor", "what this system has and lacks", [this] { return doctor(target_); });
    }

    /// What all nodes of a pool hold alike.
    void add_terms(CLI::App* create) {
        create
            ->add_option("--lease-ms", plan_.terms.lease_ms,
                         "a node that gives no sign of life for so long is suspect (default 3000)")
            ->check(CLI::Range(MIN_LEASE_MS, MAX_LEASE_MS));
        create
            ->add_option_function<std::string>(
                "--cluster", [this](const std::string& name) { set_cluster(plan_.terms, name); },
                "whose pool it is: daemons that say another name are refused")
            ->type_name("NAME");
        create
            ->add_option_function<std::string>(
                "--coherent", [this](const std::string& word) { set_coherence(plan_.terms, word); },
                "whether caches of all machines that map it are kept coherent; must be said of a "
                "device")
            ->type_name("yes|no");
    }

    /// What a pool is made for.
    void add_sizes(CLI::App* create) {
        const auto size = [&](const char* name, usize& to, const char* help) {
            create
                ->add_option_function<std::string>(
                    name,
                    [name, &to](const std::string& text) {
                        if (!parse_size(text.c_str(), to))
                            throw CLI::ValidationError(
                                name, "'" + text + "': expected bytes, or with K, M, G, T");
                    },
                    help)
                ->type_name("SIZE");
        };
        size("--size", plan_.bytes,
             "bytes, or with K, M, G, T (default: of a file 1G, of a device all it has)");
        size("--room", plan_.room,
             "that it may grow to: costs addresses (default: of a file 4 times its size)");
        const auto number = [&](const char* name, u32& to, u32 least, u32 most, const char* help) {
            create->add_option(name, to, help)->check(CLI::Range(least, most));
        };
        era::Sizes& sizes = plan_.sizes;
        number("--nodes", sizes.nodes, 1, era::POOL_NODES,
               "contexts that may share it (default 8)");
        number("--lanes", sizes.lanes, era::MIN_LANES, era::MAX_WRITERS,
               "of each node: operations between nodes at once (default 64, or what 4095 in all "
               "allow)");
        number("--objects", sizes.objects, 1, era::MOST_OBJECTS,
               "of each node: that it may share with others (default: one for each 64 KiB, 65536 "
               "at most)");
        number("--messages", sizes.messages, 1, era::MOST_MESSAGES,
               "under way from one node to another (default 256, or 1024 from 256 MiB on, with "
               "more than 8 nodes fewer)");
        number("--clients", sizes.clients, 1, era::MOST_CLIENTS,
               "of each node: that others can find by name (default 1024)");
    }

    /// Pools by themselves: these ask no daemon.
    void make_pool_commands() {
        CLI::App* all = app_.add_subcommand("pool", "make, look at and remove pools");
        all->require_subcommand(1);
        const auto sub = [&](const char* name, const char* help, std::function<int()> action) {
            CLI::App* one = all->add_subcommand(name, help);
            one->add_option("path", pool_path_,
                            "a file (tmpfs, hugetlbfs, ext4, xfs; fsdax, famfs) or a DAX device")
                ->required();
            one->add_flag("--json", target_.json, "print JSON");
            one->callback([this, action = std::move(action)] { action_ = action; });
            return one;
        };
        CLI::App* create = sub("create", "make a pool, with sizes of your choice",
                               [this] { return create_pool(pool_path_, plan_, target_.json); });
        add_sizes(create);
        add_terms(create);
        sub(
            "info", "what it is, and who uses it",
            [this] { return show_pool(pool_path_, target_.json); });
        CLI::App* grow = sub("grow", "make it larger while it is in use", [this] {
            return enlarge_pool(pool_path_, grow_bytes_, grow_more_, target_.json);
        });
        grow->add_option_function<std::string>(
                "--size",
                [this](const std::string& text) {
                    grow_more_ = text[0] == '+';
                    if (!parse_size(text.c_str() + grow_more_, grow_bytes_))
                        throw CLI::ValidationError("--size",
                                                   "'" + text +
                                                       "': expected bytes, or with K, M, G, T, and "
                                                       "a + before: so much more");
                },
                "that it is to have; with a + before: by how much it is to grow")
            ->type_name("[+]SIZE")
            ->required();
        sub("destroy", "remove the file, or clear the device (or the file on DAX)",
            [this] { return remove_pool(pool_path_, force_, target_.json); })
            ->add_flag("--force", force_,
                       "although it is used: who does goes on with what he has mapped");
    }

    void make_node_commands() {
        CLI::App* all =
            app_.add_subcommand("node", "what people say to nodes of the pool, and of them");
        all->require_subcommand(1);
        CLI::App* dead = command(
            "dead", "a node that is suspect has been cut off from the pool: recover what it held",
            [this] { return node_dead(target_, node_, generation_); }, true, all);
        dead->add_option("node", node_, "its number")->required()->check(CLI::Range(1u, 255u));
        dead->add_option("--generation", generation_,
                         "the life of it that was cut off, as aep status shows it")
            ->required()
            ->check(CLI::Range(1u, 0xffff'ffffu));
        CLI::App* leave = command(
            "drain",
            "a node is to leave the pool: it takes no new programs, and goes when those that it "
            "has have ended; what other "
            "nodes hold of it stays theirs",
            [this] { return drain(target_, drain_); }, true, all);
        leave->add_option("node", drain_.node, "its number")
            ->required()
            ->check(CLI::Range(1u, 255u));
        leave
            ->add_option("--within", drain_.within_s,
                         "seconds to wait for it; it goes on afterwards")
            ->type_name("SECONDS")
            ->check(CLI::Range(0.0, 1e9))
            ->capture_default_str();
        leave->add_flag("--wait", drain_.wait,
                        "it goes only when other nodes have given up its objects");
        leave->add_flag("--cancel", drain_.cancel, "it stays after all");
    }

    void make_profile() {
        CLI::App* sub = app_.add_subcommand("profile",
                                            "the heap profile of a running process, by samples: a "
                                            "file for jeprof or pprof, a flame graph");
        sub->add_option("subject", profile_.subject,
                        "the process's number; with --flame also a profile's file")
            ->type_name("PID|FILE")
            ->required();
        sub->add_option("--output", profile_.output,
                        "where to write the profile (default aep.PID.heap)")
            ->type_name("FILE");
        sub->add_option("--flame", profile_.flame, "draw a flame graph")->type_name("FILE.svg");
        sub->add_flag("--allocated", profile_.made, "draw all that was allocated, not what lives");
        sub->add_option("--seconds", profile_.seconds,
                        "how long to wait (default 10 if it has to be switched on, else 0)")
            ->type_name("SECONDS")
            ->check(CLI::Range(0.0, 86400.0));
        sub->add_option("--rate", profile_.rate,
                        "bytes from one sample to the next, on average (default 512K)")
            ->type_name("SIZE");
        sub->add_flag("--keep", profile_.keep, "leave it switched on");
        sub->add_flag("--json", profile_.json, "print JSON");
        sub->callback([this] { action_ = [this] { return profile(profile_); }; });
    }

    CLI::App app_{"AEP-DSM: processes share a heap that no death corrupts.", "aep"};
    Target target_;
    std::string name_ = variable("AEP_CONTEXT", DEFAULT_CONTEXT);
    std::string socket_ = variable("AEP_SOCKET", ""), directory_;
    DaemonArguments daemon_;
    RunOptions run_;
    ProfileOptions profile_;
    bool force_ = false;
    u64 most_objects_ = 20;
    double over_s_ = 0;
    std::optional<double> timeout_s_;
    TopOptions top_;
    std::string pool_path_;
    u32 node_ = 0, generation_ = 0;
    DrainOptions drain_;
    PoolPlan plan_;
    usize grow_bytes_ = 0;
    bool grow_more_ = false;
    std::string listen_;
    std::function<int()> action_ = [] { return 2; };
};

}  // namespace
}  // namespace aep

int main(int argc, char** argv) {
    aep::keep_fault_signal(SIGBUS, aep::way_out_of);  // of a pool's memory that has failed
    return aep::CommandLine().parse_and_run(argc, argv);
}
