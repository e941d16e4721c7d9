// Purpose: see rates.hpp.
// Who calls it: see rates.hpp.
// Crash rule: see rates.hpp.
#include "tools/cli/rates.hpp"

#include <array>

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

}  // namespace

Json rates_between(const Json& before, const Json& now) {
    Json rates = Json::object();
    const bool same = before.contains("pid") && before.at("pid") == now.at("pid");
    const double seconds =
        same ? (now.at("uptime_ms").get<double>() - before.at("uptime_ms").get<double>()) / 1000
             : 0;
    for (const Rate& rate : RATES) {
        const double grown = seconds > 0 ? counter(now, rate) - counter(before, rate) : 0;
        rates[rate.name] = grown > 0 ? grown / seconds : 0.0;
    }
    return rates;
}

}  // namespace aep
