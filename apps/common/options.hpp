// Purpose: the command line and the output that the applications have in common.
// Who calls it: the applications' main functions, here and in bench/apps.
// Crash rule: no state.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/common/team.hpp"

namespace aep::apps {

using Figures = std::vector<std::pair<std::string, double>>;

/// A line of name and value for each, or one JSON object.
inline void print(const Figures& figures, bool json) {
    if (json) {
        nlohmann::ordered_json object;
        for (const auto& [name, value] : figures) object[name] = value;
        fmt::print("{}\n", object.dump());
        return;
    }
    for (const auto& [name, value] : figures) fmt::print("{:<18} {:.6g}\n", name, value);
}

/// The options of every application. `transports` are the names there are.
inline void add_options(CLI::App& app, Launch& launch, const std::vector<std::string>& transports) {
    app.get_formatter()->column_width(34);
    launch.over = transports.front();
    app.add_option("--over", launch.over, "what carries the objects")
        ->check(CLI::IsMember(transports))
        ->capture_default_str();
    app.add_option("--nodes", launch.nodes,
                   "with --over aep: sockets of contexts, which the processes join by turns; "
                   "contexts of one pool are nodes of it "
                   "(default: the context that the program was started in)")
        ->delimiter(',');
    app.add_option("--stay", launch.stay,
                   "with --nodes: so many processes one after the other join the same context")
        ->check(CLI::Range(1u, 64u))
        ->capture_default_str();
    app.add_option("--kills", launch.kills,
                   "with --over aep: so many processes are killed at random moments and replaced; "
                   "the others go on")
        ->check(CLI::Range(0, 100'000));
    app.add_option("--seed", launch.seed, "of what is random")->capture_default_str();
    app.add_flag("--json", launch.json, "print the figures as one JSON object");
    app.add_option("--member", launch.member)->group("");
    app.add_option("--board", launch.board)->group("");
    app.add_option("--team", launch.team)->group("");
}

/// An option whose value is one of some names.
template <class Value>
void add_choice(CLI::App& app, const std::string& option, Value& value,
                const std::map<std::string, Value>& choices, const std::string& text) {
    std::string names;
    for (const auto& choice : choices) names += (names.empty() ? "" : "|") + choice.first;
    app.add_option(option, value, text)
        ->transform(CLI::CheckedTransformer(choices).description(""))
        ->type_name(names);
}

/// A number from `least` to `most`; its default is shown.
template <class Value, class Bound>
void add_number(CLI::App& app, const std::string& option, Value& value, Bound least, Bound most,
                const std::string& text) {
    app.add_option(option, value, text)->check(CLI::Range(least, most))->capture_default_str();
}

/// How members wait; `waiting` is the default.
inline void add_waiting(CLI::App& app, Waiting& waiting) {
    const auto by_default = [is = waiting](Waiting way) {
        return is == way ? " (the default)" : "";
    };
    add_choice<Waiting>(
        app, "--wait", waiting,
        {{"polling", Waiting::polling}, {"loop", Waiting::loop}, {"blocking", Waiting::blocking}},
        fmt::format("polling{}, in an event loop on a descriptor{}, or blocking in receive{}",
                    by_default(Waiting::polling), by_default(Waiting::loop),
                    by_default(Waiting::blocking)));
}

/// A main function: `run` does the work and returns the figures, or none in a member. 2: bad usage, 1: it failed.
template <class Run>
int main_of(CLI::App& app, Launch& launch, int count, char** words, Run&& run) {
    launch.words.assign(words, words + count);
    try {
        app.parse(count, words);
    } catch (const CLI::ParseError& why) {
        return app.exit(why) == 0 ? 0 : 2;
    }
    try {
        const Figures figures = run();
        if (!figures.empty()) print(figures, launch.json);
        return 0;
    } catch (const std::exception& why) {
        fmt::print(stderr, "{}: {}\n", launch.program, why.what());
        return 1;
    }
}

/// Calls `use` with that one of the transports, or of what an application has in their place, that has the name: as a null
/// pointer of its type.
template <class... Ts, class Use>
Figures over(const std::string& name, Use&& use) {
    Figures figures;
    const bool found =
        ((name == Ts::NAME && (figures = use(static_cast<Ts*>(nullptr)), true)) || ...);
    verify(found, "no such transport");
    return figures;
}

template <class... Ts>
std::vector<std::string> names() {
    return {Ts::NAME...};
}

}  // namespace aep::apps
