// Purpose: see commands.hpp.
// Who calls it: cli/main.cpp.
// Crash rule: none needed.
#include "tools/cli/commands.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "aep-lib/provider/pins.hpp"
#include "dsm-core/base/layout.hpp"
#include "node/leftovers.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "shim/context/daemon_protocol.hpp"
#include "shim/sys/environment.hpp"
#include "tools/cli/doctor.hpp"
#include "tools/cli/preloadable.hpp"
#include "tools/cli/rates.hpp"
#include "tools/cli/show.hpp"

namespace aep {
namespace {

void complain(const std::string& text) { std::fprintf(stderr, "aep: %s\n", text.c_str()); }

/// What execvp would run, in `found`: 0, or why it would not. Asked before a daemon is started for it.
int find_program(const std::string& program, std::string& found) {
    found = program;
    if (program.find('/') != std::string::npos)
        return access(program.c_str(), X_OK) == 0 ? 0 : errno;
    const char* const path = std::getenv("PATH");
    std::istringstream folders(path != nullptr ? path : "/bin:/usr/bin");
    int why = ENOENT;
    for (std::string folder; std::getline(folders, folder, ':');) {
        const std::string candidate = (folder.empty() ? "." : folder) + "/" + program;
        if (access(candidate.c_str(), X_OK) == 0) {
            found = candidate;
            return 0;
        }
        // In a folder that cannot be looked into there is none, for us.
        if (access(candidate.c_str(), F_OK) == 0) why = EACCES;
    }
    return why;
}

int cannot_run(const std::string& program, int error) {
    complain(program + ": " + errno_text(error));
    return error == ENOENT ? 127 : 126;
}

/// What the daemon says of itself; empty: it has just gone.
Json status_of(const Target& target) {
    const std::optional<Json> answer =
        ask_daemon(target.paths, {{"command", "status"}}, target.patience_ms);
    return answer ? answer->value("status", Json::object()) : Json::object();
}

/// Where a running daemon is not as its options ask, a line each; what it cannot be asked about has gone by unheard,
/// as the commands' help says.
std::vector<std::string> unlike_daemon(const DaemonArguments& daemon, const Json& status) {
    const Json pool = status.value("pool", Json::object()),
               memory = status.value("memory", Json::object());
    const auto has = [&](const std::string& option) -> std::optional<std::string> {
        if (option == "--provider") return status.value("provider", "");
        if (option == "--pool") return pool.value("path", "");
        if (option == "--pool-size") {  // a device has the size it has
            std::error_code none;
            const u64 bytes = std::filesystem::file_size(pool.value("path", ""), none);
            return none ? std::nullopt : std::optional(std::to_string(bytes));
        }
        if (option == "--node") {
            for (const Json& node : status.value("nodes", Json::array()))
                if (node.at("self").get<bool>()) return node.at("node").dump();
            return "none";
        }
        if (option == "--client-limit") return std::to_string(memory.value("client_limit", u64{0}));
        if (option == "--context-limit")
            return std::to_string(memory.value("context_limit", u64{0}));
        return std::nullopt;
    };
    const auto is_same = [](const std::string& option, const std::string& wanted,
                            const std::string& real) {
        usize bytes = 0;
        if (option == "--provider") return wanted == "auto" || wanted == real;
        if (option != "--pool")
            return !parse_size(wanted.c_str(), bytes) || std::to_string(bytes) == real;
        std::error_code ignored;
        return std::filesystem::weakly_canonical(wanted, ignored) ==
               std::filesystem::weakly_canonical(real, ignored);
    };
    std::vector<std::string> lines;
    for (size_t i = 0; i + 1 < daemon.words.size(); ++i) {
        const std::optional<std::string> real = has(daemon.words[i]);
        if (!real || is_same(daemon.words[i], daemon.words[i + 1], *real)) continue;
        lines.push_back(fmt::format("with {} {} and not {}: aep down and aep up change it",
                                    daemon.words[i], *real, daemon.words[i + 1]));
    }
    return lines;
}

/// The answer to `request` now, and once more after `over_s` seconds.
std::pair<Json, Json> look_twice(const Target& target, const Json& request, double over_s) {
    Json before = must_do(target, request);
    usleep(static_cast<useconds_t>(over_s * 1e6));
    return {std::move(before), must_do(target, request)};
}

/// What `aep status` exits with: the context's own state first, then that of the other nodes.
int exit_of(const Json& status) {
    const std::string state = status.at("state");
    if (state == "poisoned") return EXIT_POISONED;
    if (state == "fenced") return EXIT_FENCED;
    const Json& membership = status.at("membership");
    const bool suspects = membership.is_object() && membership.at("suspects").get<u64>() != 0;
    return state == "suspect" || suspects ? EXIT_SUSPECT : 0;
}

/// Asks the daemon to take its context down; while nobody lives, and what the last ones left is not done yet, again.
std::optional<Json> ask_down(const Target& target, bool force) {
    constexpr u64 LOOK_AGAIN_MS = 10;
    const u64 end = monotonic_ms() + static_cast<u64>(target.patience_ms);
    for (;;) {
        std::optional<Json> answer =
            ask_daemon(target.paths, {{"command", "down"}, {"force", force}}, target.patience_ms);
        if (!answer || answer->value("ok", false) || !answer->value("soon", false) ||
            monotonic_ms() >= end)
            return answer;
        usleep(LOOK_AGAIN_MS * 1000);
    }
}

}  // namespace

int run_program(const Target& target, const DaemonArguments& daemon, const RunOptions& options) {
    const std::string library = !options.library.empty() ? options.library : library_path();
    if (access(library.c_str(), R_OK) != 0) {
        complain("no library " + library + ": is AEP installed whole?");
        return EXIT_WRONG;
    }
    if (library.find_first_of(" :") != std::string::npos) {
        complain("library " + library +
                 ": LD_PRELOAD allows no space or colon in its path: put it elsewhere, and give "
                 "--library");
        return EXIT_WRONG;
    }
    std::string found;
    if (const int error = find_program(options.program[0], found); error != 0)
        return cannot_run(options.program[0], error);
    if (const std::string why = why_not_preloaded(found); !why.empty()) {
        if (options.require) {
            complain(why + ": it cannot join; without --require it runs on its own heap");
            return EXIT_WRONG;
        }
        complain(why + ": it runs on its own heap");
    }
    bool started = false;
    if (const std::string why = start_daemon(target.paths, daemon.words, started); !why.empty()) {
        complain(why);
        return EXIT_WRONG;
    }
    if (!started && !daemon.words.empty()) {
        const Json status = status_of(target);
        for (const std::string& line : unlike_daemon(daemon, status))
            complain("the daemon runs already, " + line);
    }
    const std::string others = preload_without_us();
    setenv("LD_PRELOAD", (library + (others.empty() ? "" : ":" + others)).c_str(), 1);
    setenv("AEP_CONTEXT", target.paths.name.c_str(), 1);
    if (!target.paths.own_runtime) setenv("AEP_SOCKET", target.paths.socket.c_str(), 1);
    if (options.stats) setenv("AEP_STATS", "1", 1);
    if (options.background) setenv("AEP_BACKGROUND", "1", 1);
    if (options.require) setenv("AEP_REQUIRE", "1", 1);
    std::vector<char*> words;
    for (const std::string& word : options.program)
        words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    execvp(words[0], words.data());
    const int error = errno;
    if (started)
        ask_daemon(target.paths, {{"command", "down"}},
                   target.patience_ms);  // it was for this program
    return cannot_run(options.program[0], error);
}

int up(const Target& target, const DaemonArguments& daemon) {
    bool started = false;
    if (const std::string why = start_daemon(target.paths, daemon.words, started); !why.empty()) {
        complain(why);
        return EXIT_WRONG;
    }
    const Json status = status_of(target);
    const std::string provider = status.value("provider", "?");
    if (target.json) {
        print(Json{{"started", started}, {"socket", target.paths.socket}, {"provider", provider}});
    } else {
        print(fmt::format("context {} {}\nprovider {}: {}\n", target.paths.name,
                          started ? "is up" : "was up already", provider,
                          status.value("protection", "?")));
        if (!started)
            for (const std::string& line : unlike_daemon(daemon, status))
                complain("the daemon ran already, " + line);
    }
    return 0;
}

int down(const Target& target, bool force) {
    const std::string& name = target.paths.name;
    const std::optional<Json> answer = ask_down(target, force);
    if (!answer) {
        const auto unload = [&] {  // what a killed daemon's provider left; named after the file
            const std::string why = remove_pins_of(name, target.paths.context());
            if (!why.empty()) complain(why);
        };
        switch (remove_leftovers(target.paths, force, unload)) {
            case Leftovers::none:
                complain("context " + name + ": no daemon serves it (nothing listens at " +
                         target.paths.socket + "), and there is nothing to take down in " +
                         target.paths.directory);
                return EXIT_NO_DAEMON;
            case Leftovers::removed:
                if (!target.json)
                    print("context " + name + ": no daemon ran; its files are removed\n");
                break;
            case Leftovers::served: {
                const std::string who = served_elsewhere(target.paths);
                complain(who.empty() ? "context " + name + ": its daemon has just ended: repeat it"
                                     : who);
                return EXIT_WRONG;
            }
            case Leftovers::in_use:
                complain("context " + name +
                         ": no daemon runs, but clients live; end them, or "
                         "take it down with --force");
                return EXIT_WRONG;
        }
    } else if (!answer->value("ok", false)) {
        if (target.json) print(*answer);
        complain("context " + name + ": " + answer->value("error", "?") +
                 "; end them, or take it down with --force (they keep what they have)");
        if (!target.json && answer->contains("clients"))
            std::fputs(clients_text(answer->at("clients")).c_str(), stderr);
        return EXIT_WRONG;
    } else if (!target.json) {
        print("context " + name + " is down\n");
    }
    if (target.json) print(Json{{"ok", true}});
    return 0;
}

int show_status(const Target& target, double over_s) {
    const Json request{{"command", "status"}};
    Json status, rates;
    if (over_s == 0) {
        status = must_get(target, request, "status");
    } else {
        auto [before, now] = look_twice(target, request, over_s);
        status = std::move(now.at("status"));
        rates = rates_between(before.at("status"), status);
    }
    if (target.json) {
        if (!rates.is_null()) status["rates"] = rates;
        print(status);
    } else {
        print(status_text(status) + (rates.is_null() ? "" : rates_text(rates)));
    }
    return exit_of(status);
}

int show_clients(const Target& target, double over_s) {
    Json clients;
    if (over_s == 0) {
        clients = must_get(target, {{"command", "clients"}}, "clients");
    } else {
        auto [before, now] = look_twice(target, {{"command", "top"}}, over_s);
        add_client_rates(before, now);
        clients = std::move(now.at("clients"));
    }
    target.json ? print(clients) : print(clients_text(clients));
    return 0;
}

int check(const Target& target) {
    const Json findings = must_get(target, {{"command", "check"}}, "findings");
    if (target.json) {
        print(findings);
    } else {
        print(findings_text(findings));
        print(findings.empty() ? "nothing is wrong\n"
                               : fmt::format("{} findings\n", findings.size()));
    }
    return findings.empty() ? 0 : EXIT_WRONG;
}

int recover(const Target& target) {
    const Json done = must_get(target, {{"command", "recover"}}, "recovered");
    if (target.json) {
        print(done);
    } else {
        print(fmt::format("{} clients recovered with {}; {} given back to the pool\n",
                          done.at("clients").get<u64>(),
                          bytes_text(done.at("chunks").get<u64>() * CHUNK_SIZE),
                          bytes_text(done.at("chunks_returned").get<u64>() * CHUNK_SIZE)));
    }
    return 0;
}

int node_dead(const Target& target, u32 node, u32 generation) {
    const Json request{{"command", "node-dead"}, {"node", node}, {"generation", generation}};
    const u64 recovered = must_get(target, request, "nodes_recovered");
    if (target.json) {
        print(Json{{"nodes_recovered", recovered}});
    } else {
        print(
            recovered != 0
                ? fmt::format("node {} is recovered\n", node)
                : fmt::format(
                      "node {} is known to be dead; another node is recovering it, or there is no "
                      "quorum to\n",
                      node));
    }
    return 0;
}

int doctor(const Target& target) {
    constexpr const char* WORDS[] = {"good", "weak", "BAD"};
    bool bad = false;
    Json all = Json::array();
    for (const Diagnosis& d : diagnose(target)) {
        const char* word = WORDS[static_cast<int>(d.health)];
        bad = bad || d.health == Health::bad;
        if (target.json) {
            all.push_back(
                {{"what", d.what}, {"health", word}, {"found", d.found}, {"advice", d.advice}});
        } else {
            print(fmt::format("{:<4}  {:<18} {}\n", word, d.what, d.found));
            if (!d.advice.empty()) print(fmt::format("{:>26}{}\n", "-> ", d.advice));
        }
    }
    if (target.json) print(all);
    return bad ? EXIT_WRONG : 0;
}

}  // namespace aep
