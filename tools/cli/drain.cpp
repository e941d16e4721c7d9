// Purpose: see drain.hpp.
// Who calls it: see drain.hpp.
// Crash rule: see drain.hpp.
#include "tools/cli/drain.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cstdio>

#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "tools/cli/show.hpp"

namespace aep {
namespace {

constexpr int LOOK_AGAIN_MS = 100;

/// The node in that life, as the daemon shows it; null: it has left, which, of the daemon's own node, ends the daemon.
Json look(const Target& target, u32 node, u64 generation, bool self) {
    std::optional<Json> answer;
    try {
        answer = ask_daemon(target.paths, {{"command", "status"}}, target.patience_ms);
    } catch (const NodeError&) {
        if (!self) throw;  // it may be about to end
        return {{"self", true}, {"draining", nullptr}};
    }
    if (!answer) {
        if (self) return nullptr;
        throw NodeError(
            ECONNREFUSED,
            "the daemon that was asked has ended, and the other one drains on: ask it with aep "
            "status");
    }
    for (const Json& one : answer->at("status").at("nodes"))
        if (one.at("node") == node && one.at("generation") == generation) return one;
    return nullptr;
}

std::string left_text(const Json& draining) {
    if (!draining.is_object() || draining.at("clients").is_null())
        return "its daemon has not said yet what is left";
    const u64 clients = draining.at("clients"), objects = draining.at("objects");
    const bool waits = draining.at("waits");
    return fmt::format("{} clients live{}", clients,
                       objects == 0 ? ""
                                    : fmt::format(", other nodes hold {} of its objects{}", objects,
                                                  waits ? ", which are waited for" : ""));
}

/// What is left when the time is up. The own node's clients can be named.
int give_up(const Target& target, const DrainOptions& o, const Json& last, u64 generation) {
    const std::string left =
        last.at("state") == "suspect"
            ? fmt::format("it is silent; if it is dead: aep node dead {} --generation {}", o.node,
                          generation)
            : left_text(last.at("draining"));
    if (target.json)
        print(Json{{"node", o.node}, {"drained", false}, {"left", last.at("draining")}});
    std::fprintf(stderr,
                 "aep: node %u is not drained within %g s: %s; it takes no new programs and goes "
                 "when that is done; "
                 "aep node drain %u --cancel lets it stay\n",
                 o.node, o.within_s, left.c_str(), o.node);
    if (!target.json && last.at("self").get<bool>())
        std::fputs(clients_text(must_get(target, {{"command", "clients"}}, "clients")).c_str(),
                   stderr);
    return EXIT_WRONG;
}

}  // namespace

int drain(const Target& target, const DrainOptions& o) {
    const Json request{
        {"command", "node-drain"}, {"node", o.node}, {"wait", o.wait}, {"cancel", o.cancel}};
    const Json begun = must_do(target, request);
    const u64 generation = begun.at("generation");
    const bool self = begun.at("self");
    if (o.cancel) {
        print(target.json ? json_text({{"node", o.node}, {"drained", false}})
                          : fmt::format("node {} stays\n", o.node));
        return 0;
    }
    const bool terminal = isatty(STDERR_FILENO) != 0;
    const u64 end = monotonic_ms() + static_cast<u64>(o.within_s * 1000);
    Json last = look(target, o.node, generation, self);
    while (last.is_object()) {
        if (terminal) std::fprintf(stderr, "\r%s\x1b[K", left_text(last.at("draining")).c_str());
        if (monotonic_ms() >= end) {
            if (terminal) std::fputs("\n", stderr);
            return give_up(target, o, last, generation);
        }
        poll(nullptr, 0, LOOK_AGAIN_MS);
        const Json now = look(target, o.node, generation, self);
        if (!now.is_object() || now.contains("state")) last = now;
    }
    if (terminal) std::fputs("\r\x1b[K", stderr);
    print(target.json ? json_text({{"node", o.node}, {"drained", true}})
                      : fmt::format("node {} is drained: it has left the pool\n", o.node));
    return 0;
}

}  // namespace aep
