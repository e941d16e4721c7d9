// Purpose: see client_order.hpp.
// Who calls it: see client_order.hpp.
// Crash rule: see client_order.hpp.
#include "tools/cli/client_order.hpp"

#include <algorithm>

namespace aep {

const std::vector<ClientOrder>& client_orders() {
    static const std::vector<ClientOrder> ORDERS{
        {'m', "held", "bytes", true},         {'p', "peak", "peak_bytes", true},
        {'c', "client", "client", false},     {'i', "pid", "pid", false},
        {'n', "name", "name", false},         {'s', "state", "state", false},
        {'t', "threads", "threads", true},    {'a', "attached", "attached_ms", true},
        {'w', "waiting", "messages", true},   {'o', "operations", "operations_a_second", true},
        {'x', "sent", "sent_a_second", true}, {'v', "received", "received_a_second", true},
    };
    return ORDERS;
}

const ClientOrder* order_by_name(const std::string& name) {
    for (const ClientOrder& order : client_orders())
        if (order.name == name) return &order;
    return nullptr;
}

Json chosen_clients(const Json& clients, const ClientOrder& order, bool reversed,
                    const std::string& filter) {
    Json chosen = Json::array();
    for (const Json& client : clients)
        if (client.at("name").get<std::string>().find(filter) != std::string::npos)
            chosen.push_back(client);
    const bool falling = order.falling != reversed;
    std::stable_sort(chosen.begin(), chosen.end(), [&](const Json& a, const Json& b) {
        return falling ? b.at(order.field) < a.at(order.field)
                       : a.at(order.field) < b.at(order.field);
    });
    return chosen;
}

}  // namespace aep
