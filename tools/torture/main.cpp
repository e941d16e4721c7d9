// Purpose: aep-torture: kills clients of a context at random and at every named point of the image,
// in
//          every way a process can die, and checks after each that nothing is broken, nobody waits
//          and nothing is lost. Ends with one line of counts.
// Who calls it: `./aep torture`, the tests.
// Crash rule: victims, daemon and files go with it.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <deque>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>

#include "tools/torture/counts.hpp"
#include "tools/torture/node.hpp"
#include "tools/torture/patience.hpp"
#include "tools/torture/pause.hpp"
#include "tools/torture/point_kill.hpp"
#include "tools/torture/points.hpp"
#include "tools/torture/victim_process.hpp"

namespace aep::torture {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

struct Options {
    std::uint64_t kills = 300;
    unsigned clients = 3;
    unsigned threads = 3;
    unsigned nodes = 1;
    std::string provider = "auto";
    std::uint64_t seed = 0;
    std::vector<std::string> deaths;
    bool kill_daemon = true;
    bool expect_poison = false;
    bool as_json = false;
    std::filesystem::path build;
};

/// A memory cgroup whose members the kernel kills when they take more than 1 GiB.
class SmallGroup {
  public:
    SmallGroup() {
        const bool v2 = std::filesystem::exists("/sys/fs/cgroup/cgroup.controllers");
        directory_ = std::filesystem::path(v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory") /
                     fmt::format("aep-torture-{}", getpid());
        std::error_code failed;
        std::filesystem::create_directory(directory_, failed);
        std::ofstream limit(directory_ / (v2 ? "memory.max" : "memory.limit_in_bytes"));
        usable_ = !failed && static_cast<bool>(limit << (1024u << 20) << std::flush);
    }
    SmallGroup(const SmallGroup&) = delete;
    SmallGroup& operator=(const SmallGroup&) = delete;
    ~SmallGroup() { rmdir(directory_.c_str()); }
    std::optional<std::filesystem::path> path() const {
        return usable_ ? std::optional(directory_) : std::nullopt;
    }

  private:
    std::filesystem::path directory_;
    bool usable_ = false;
};

constexpr Death KILLED{"sigkill", By::driver, ""};

class Torture {
  public:
    explicit Torture(const Options& options)
        : options_(options),
          random_(options.seed),
          points_(points_of_image(options.build / "aep-lib/image/aep-image", options.nodes > 1)) {
        for (unsigned i = 0; i < options.nodes; ++i) {
            NodeSetup setup{.daemon = options.build / "tools/aepd", .provider = options.provider};
            setup.of = options.nodes;
            if (options.nodes > 1) {
                setup.number = i + 1;
                if (i != 0) setup.pool = nodes_[0].node->directory() / "pool";
            }
            nodes_.push_back({std::make_unique<Node>(setup)});
        }
        pause_.emplace(pause_file().c_str(), true);
        if (!pause_->is_there()) throw std::runtime_error("cannot make " + pause_file().string());
        counts_.provider = nodes_[0].node->command("status").at("status").at("provider");
        deferred_before_ = deferred_by_kernel();
        for (const auto& [name, addresses] : points_) counts_.by_point[name] = 0;
        for (const Death& death : DEATHS) {
            const bool wanted =
                options.deaths.empty() || std::ranges::count(options.deaths, death.name) != 0;
            if (!wanted) continue;
            if (death.name == "oom" && !group_.path()) {
                fmt::print(stderr, "CANNOT RUN: torture/oom: no memory cgroup can be made\n");
                continue;
            }
            deaths_.push_back(death);
        }
        if (deaths_.empty()) throw std::runtime_error("no way to die is left");
    }

    /// The last one first: the first one's directory has the pool.
    ~Torture() {
        while (!nodes_.empty()) nodes_.pop_back();
    }
    Torture(const Torture&) = delete;
    Torture& operator=(const Torture&) = delete;

    const Counts& run() {
        const bool points =
            std::ranges::any_of(deaths_, [](const Death& d) { return d.by == By::point; });
        if (!points) counts_.by_point.clear();
        while (counts_.kills < options_.kills && !stop_) {
            while (victims_.size() < options_.clients && !stop_) start_victim();
            kill_one();
            judge();
        }
        // Points that chance did not bring: rare operations get more victims of their own.
        for (int round = 0; points && round < 60 && counts_.points_missed() != 0 && !stop_;
             ++round) {
            if (round % 3 == 2) end_company();
            for (auto& [name, hits] : counts_.by_point) {
                if (hits != 0 || stop_) continue;
                kill_at(name, 1500);
                judge_in_pause();
            }
        }
        finish();
        counts_.deferred = deferred_by_kernel() - deferred_before_;
        return counts_;
    }

  private:
    /// Since the system started; 0: not such a kernel.
    static std::uint64_t deferred_by_kernel() {
        std::ifstream file("/sys/kernel/mm/aep/deferrals");
        std::uint64_t count = 0;
        return file >> count ? count : 0;
    }

    struct Running {
        std::unique_ptr<Victim> victim;
        Death death;
        unsigned node;
    };
    /// A node, and what was counted in it that its next life does not know.
    struct Counted {
        std::unique_ptr<Node> node;
        Outcomes now = {}, before = {};  // of this life, of former ones
        std::uint64_t broken = 0;
    };

    std::filesystem::path pause_file() const { return nodes_[0].node->directory() / "pause"; }

    VictimSetup setup_for(unsigned node) const {
        return {.program = options_.build / "tools/aep-torture-victim",
                .library = options_.build / "preload/libaepmalloc.so",
                .environment = nodes_[node].node->environment(),
                .pause = pause_file(),
                .threads = options_.threads,
                .oom_group = group_.path()};
    }

    unsigned below(unsigned n) {
        return std::uniform_int_distribution<unsigned>(0, n - 1)(random_);
    }

    void add_victim(const Death& death, unsigned node, unsigned microseconds) {
        victims_.push_back(
            {std::make_unique<Victim>(setup_for(node), random_(), death, microseconds), death,
             node});
    }

    void start_victim() {
        const Death death = deaths_[below(static_cast<unsigned>(deaths_.size()))];
        const unsigned node = below(options_.nodes);
        try {
            add_victim(death, node, below(20'000));
        } catch (const std::exception& e) {
            fault(e.what(), counts_.broken);
            stop_ = true;
        }
    }

    void kill_one() {
        if (victims_.empty()) return;
        if (options_.nodes > 1 && below(30) == 0) return kill_node(victims_.front().node);
        Running victim = std::move(victims_.front());
        victims_.pop_front();
        if (victim.death.by == By::point) {
            auto least = counts_.by_point.begin();
            for (auto i = counts_.by_point.begin(); i != counts_.by_point.end(); ++i)
                if (i->second < least->second) least = i;
            end_at_point(least->first, *victim.victim, 500);
        } else {
            if (victim.death.by == By::driver) usleep(below(20'000));
            const bool ended = victim.victim->end(victim.death);
            if (!ended && victim.death.by == By::driver)
                fault("a victim does not die", counts_.hung);
        }
        ended(*victim.victim, victim.death);
    }

    /// As a power cut does: all of it at once, in no order that anybody relies on.
    void kill_node(unsigned node) {
        std::deque<Running> others;
        for (Running& running : victims_) {
            if (running.node != node) {
                others.push_back(std::move(running));
                continue;
            }
            running.victim->end(KILLED);
            ++counts_.kills;
            ++counts_.by_death["node"];
        }
        victims_ = std::move(others);
        ++counts_.node_kills;
        Counted& counted = nodes_[node];
        counted.before += std::exchange(counted.now, {});
        counted.broken = 0;
        counted.node->lose_power();
    }

    /// On every node somebody who lives until we end them: what happens between clients, and
    /// between nodes, has points that one alone never reaches.
    void keep_company() {
        for (unsigned node = 0; node < options_.nodes; ++node) {
            const bool has = std::ranges::any_of(victims_, [&](const Running& running) {
                return running.node == node && running.death.by == By::driver;
            });
            if (has) continue;
            add_victim(KILLED, node, 0);
        }
    }

    /// Who lives for long has all the memory that it ever takes, and may leave the pool so short that nobody keeps a chunk in
    /// reserve. Those that come after find what the dead have left.
    void end_company() {
        while (!victims_.empty()) {
            const Running running = std::move(victims_.front());
            victims_.pop_front();
            running.victim->end(KILLED);
            ended(*running.victim, KILLED);
        }
        judge();
    }

    void kill_at(const std::string& point, int milliseconds) {
        const Death death{"point", By::point, ""};
        keep_company();
        Victim victim(setup_for(below(options_.nodes)), random_(), death, 0);
        end_at_point(point, victim, milliseconds);
        ended(victim, death);
    }

    void end_at_point(const std::string& point, Victim& victim, int milliseconds) {
        std::vector<std::uint64_t> addresses = points_.at(point);
        if (!by_kernel()) {
            counts_.by_point[point] += victim.end_at_point(addresses, milliseconds);
            return;
        }
        std::ranges::shuffle(addresses, random_);
        if (addresses.size() > PointKill::MOST) addresses.resize(PointKill::MOST);
        counts_.by_point[point] += victim.end_when_at_point(addresses, milliseconds);
    }

    bool by_kernel() const { return counts_.provider == "kernel"; }

    void ended(const Victim& victim, const Death& death) {
        ++counts_.kills;
        ++counts_.by_death[std::string(death.name)];
        const int status = victim.status();
        if (WIFEXITED(status) && WEXITSTATUS(status) >= 97)
            fault(fmt::format("victim {} found damage", victim.pid()), counts_.broken);
        if (options_.kill_daemon && options_.provider != "none" && below(20) == 0) {
            nodes_[below(options_.nodes)].node->restart_daemon();
            ++counts_.daemon_kills;
        }
        if (!options_.as_json && isatty(2)) {
            fmt::print(stderr,
                       "\r{} of {} kills, {} operations open, {} broken, {} points missed\x1b[K",
                       counts_.kills, options_.kills, counts_.operations.open, counts_.broken,
                       counts_.points_missed());
        }
    }

    /// Those who keep company fill the tables, and are many: a walk of these is to see one state.
    void judge_in_pause() {
        pause_->set(true);
        judge();
        pause_->set(false);
    }

    /// After a kill: what is left of the dead is taken back, then everything is walked.
    void judge() {
        counts_.operations = {};
        for (Counted& counted : nodes_) {
            try {
                judge(counted);
            } catch (const std::exception& e) {
                fault(std::string(e.what()) + ": " + counted.node->last_words(), counts_.hung);
                stop_ = true;
            }
            counts_.operations += counted.before;
            counts_.operations += counted.now;
        }
    }

    void judge(Counted& counted) {
        const Node& node = *counted.node;
        json status;
        const auto end = Clock::now() + std::chrono::seconds(5 * patience);
        unsigned waiting = 0;
        do {
            node.command("recover");
            status = node.command("status").at("status");
            waiting = waiting_clients(node);
        } while (waiting != 0 && status.at("state") == "live" && Clock::now() < end);
        const json& recovery = status.at("recovery");
        const std::uint64_t undone = recovery.at("undone");
        counted.now = {.open = recovery.at("captured").get<std::uint64_t>() + undone,
                       .completed = recovery.at("completed"),
                       .undone = undone};
        if (status.at("state") != "live") {
            fault("the context is " + status.at("state").get<std::string>() + ": " +
                      status.at("poison").get<std::string>(),
                  counts_.broken);
            stop_ = true;
            return;
        }
        if (waiting != 0) fault("a dead client is not taken back in time", counts_.hung);
        if (recovery.at("broken") > counted.broken) {
            counted.broken = recovery.at("broken");
            fault("the heap of a dead client is broken (the daemon's log says how)",
                  counts_.broken);
        }
        for (const json& finding : node.command("check").at("findings"))
            fault("check: " + finding.dump(), counts_.broken);
    }

    /// Clients of dead processes that the daemon has not yet done with.
    unsigned waiting_clients(const Node& node) const {
        unsigned waiting = 0;
        for (const json& client : node.command("clients").at("clients")) {
            const pid_t pid = client.at("pid");
            const bool ours = std::ranges::any_of(
                victims_, [&](const Running& running) { return running.victim->pid() == pid; });
            waiting += !ours;
        }
        return waiting;
    }

    void finish() {
        while (!victims_.empty()) {
            victims_.front().victim->end(KILLED);
            victims_.pop_front();
        }
        judge();
        if (stop_) return;
        try {
            // What nodes held of each other goes by and by.
            const auto end = Clock::now() + std::chrono::seconds(10 * patience);
            do {
                counts_.leaked_bytes = 0;
                for (const Counted& counted : nodes_)
                    counts_.leaked_bytes += held_by(*counted.node);
            } while (counts_.leaked_bytes != 0 && Clock::now() < end);
        } catch (const std::exception& e) {
            fault(e.what(), counts_.hung);
        }
    }

    /// Bytes that a node without clients still holds, or that nobody frees.
    static std::uint64_t held_by(const Node& node) {
        node.command("recover");
        const json status = node.command("status").at("status");
        const json& sharing = status.at("sharing");
        return status.at("memory").at("held_bytes").get<std::uint64_t>() +
               status.at("pool").at("kept_bytes").get<std::uint64_t>() +
               sharing.at("objects").get<std::uint64_t>();
    }

    void fault(const std::string& what, std::uint64_t& counter) {
        ++counter;
        fmt::print(stderr, "{}aep-torture: {} (seed {}, kill {})\n", isatty(2) ? "\r\x1b[K" : "",
                   what, options_.seed, counts_.kills);
    }

    Options options_;
    std::mt19937_64 random_;
    std::map<std::string, std::vector<std::uint64_t>> points_;
    SmallGroup group_;
    std::vector<Counted> nodes_;
    std::vector<Death> deaths_;
    std::optional<Pause> pause_;
    std::deque<Running> victims_;
    Counts counts_;
    std::uint64_t deferred_before_ = 0;
    bool stop_ = false;
};

json to_json(const Counts& c) {
    return {{"provider", c.provider},
            {"kills", c.kills},
            {"open", c.operations.open},
            {"completed", c.operations.completed},
            {"undone", c.operations.undone},
            {"deferred", c.deferred},
            {"broken", c.broken},
            {"hung", c.hung},
            {"leaked_bytes", c.leaked_bytes},
            {"daemon_kills", c.daemon_kills},
            {"node_kills", c.node_kills},
            {"by_death", c.by_death},
            {"by_point", c.by_point}};
}

void report(const Counts& c, const Options& options, double seconds) {
    if (options.as_json) {
        fmt::print("{}\n", to_json(c).dump(2));
        return;
    }
    if (isatty(2)) fmt::print(stderr, "\r\x1b[K");
    for (const auto& [name, hits] : c.by_point)
        if (hits == 0) fmt::print("never hit: point '{}'\n", name);
    fmt::print("deaths:");
    for (const auto& [name, count] : c.by_death) fmt::print(" {} {}", name, count);
    fmt::print("; points hit {} of {}; daemon killed {} times, whole nodes {} times; {:.0f} s\n",
               c.by_point.size() - c.points_missed(), c.by_point.size(), c.daemon_kills,
               c.node_kills, seconds);
    if (c.provider == "kernel") fmt::print("ended by the kernel's leave: {}\n", c.deferred);
    fmt::print(
        "torture ({}): {} kills, {} operations open, {} completed, {} undone, {} broken, {} hung, "
        "{} bytes leaked\n",
        c.provider, c.kills, c.operations.open, c.operations.completed, c.operations.undone,
        c.broken, c.hung, c.leaked_bytes);
}

}  // namespace
}  // namespace aep::torture

int main(int count, char** arguments) {
    using namespace aep::torture;
    Options options;
    options.seed = std::random_device{}();
    options.build = std::filesystem::canonical("/proc/self/exe").parent_path().parent_path();
    CLI::App app{
        "Kills clients of a context in every way and at every point, and checks that nothing is "
        "broken, nobody waits and nothing is lost.",
        "aep-torture"};
    app.add_option("--kills", options.kills, "how many clients to kill")->capture_default_str();
    app.add_option("--clients", options.clients, "clients at a time")->check(CLI::Range(1, 64));
    app.add_option("--threads", options.threads, "threads of each")->check(CLI::Range(1, 64));
    app.add_option("--nodes", options.nodes,
                   "contexts on one pool that share objects; whole nodes are killed, too")
        ->check(CLI::Range(1, 64));
    app.add_option("--provider", options.provider, "what keeps operations whole")
        ->check(CLI::IsMember({"auto", "kernel", "ebpf", "rollback", "none"}))
        ->capture_default_str();
    app.add_option("--death", options.deaths, "only these ways to die (--list names them)");
    app.add_option("--seed", options.seed, "repeat the choices of another run");
    app.add_flag("!--keep-daemon", options.kill_daemon, "do not kill the daemon in between");
    app.add_flag("--expect-poison", options.expect_poison,
                 "succeed only if the context gets poisoned: shows that this test can fail");
    app.add_flag("--json", options.as_json, "print the counts as JSON");
    app.add_option("--patience", patience,
                   "how many times as long as usual everything may take, on a slow machine")
        ->check(CLI::Range(1, 1000));
    bool list = false;
    app.add_flag("--list", list, "print the ways to die and end");
    CLI11_PARSE(app, count, arguments);
    if (list) {
        for (const Death& death : DEATHS) fmt::print("{:14} {}\n", death.name, death.what);
        return 0;
    }
    try {
        const auto begin = Clock::now();
        const Counts counts = Torture(options).run();
        report(counts, options, std::chrono::duration<double>(Clock::now() - begin).count());
        if (options.expect_poison) return counts.broken != 0 && counts.hung == 0 ? 0 : 1;
        return counts.clean() ? 0 : 1;
    } catch (const std::exception& e) {
        fmt::print(stderr, "aep-torture: {}\n", e.what());
        return 2;
    }
}
