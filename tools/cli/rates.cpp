// Purpose: see rates.hpp.
// Who calls it: see rates.hpp.
// Crash rule: see rates.hpp.
#include "tools/cli/rates.hpp"

#include <array>
#include <string>

namespace aep {
namespace {

struct Rate {
    const char *name, *part, *counter;
};
constexpr std::array RATES{
    Rate{"sent", "sharing", "sent"},
    Rate{"received", "sharing", "received"},
    Rate{"sent_to_nodes", "sharing", "sent_to_nodes"},
    Rate{"received_from_nodes", "sharing", "received_from_nodes"},
    Rate{"attached", "clients", "attached"},
    Rate{"recovered", "recovery", "clients"},
    Rate{"recovered_bytes", "recovery", "bytes"},
    Rate{"completed", "recovery", "completed"},
    Rate{"undone", "recovery", "undone"},
};

double counter(const Json& status, const Rate& rate) {
    return status.at(rate.part).at(rate.counter).get<double>();
}

/// 0: the daemon is another one, or no time has passed.
double seconds_between(const Json& before, const Json& now) {
    if (!before.contains("pid") || before.at("pid") != now.at("pid")) return 0;
    return (now.at("uptime_ms").get<double>() - before.at("uptime_ms").get<double>()) / 1000;
}

/// The same process at the same place; null: there is none.
const Json* same_client(const Json& clients, const Json& client) {
    for (const Json& c : clients)
        if (c.at("client") == client.at("client") && c.at("pid") == client.at("pid")) return &c;
    return nullptr;
}

}  // namespace

Json rates_between(const Json& before, const Json& now) {
    Json rates = Json::object();
    const double seconds = seconds_between(before, now);
    for (const Rate& rate : RATES) {
        const double grown = seconds > 0 ? counter(now, rate) - counter(before, rate) : 0;
        rates[rate.name] = grown > 0 ? grown / seconds : 0.0;
    }
    return rates;
}

void add_client_rates(const Json& before, Json& now) {
    const double seconds =
        before.contains("status") ? seconds_between(before.at("status"), now.at("status")) : 0;
    for (Json& client : now.at("clients")) {
        const Json* const was = seconds > 0 ? same_client(before.at("clients"), client) : nullptr;
        for (const std::string counter : {"operations", "sent", "received"}) {
            Json& rate = client[counter + "_a_second"];
            if (was == nullptr) continue;
            const double grown = client.at(counter).get<double>() - was->at(counter).get<double>();
            rate = grown > 0 ? grown / seconds : 0.0;
        }
    }
}

}  // namespace aep
