// Purpose: which clients a table shows, and in what order.
// Who calls it: cli/top.cpp, cli/main.cpp.
// Crash rule: none needed.
#pragma once

#include <string>
#include <vector>

#include "tools/cli/daemon_client.hpp"

namespace aep {

struct ClientOrder {
    char key;           // of the keyboard
    const char* name;   // as people call it
    const char* field;  // of a client
    bool falling;       // the largest first
};

/// All there are.
const std::vector<ClientOrder>& client_orders();
/// Null: there is none of that name.
const ClientOrder* order_by_name(const std::string& name);

/// The clients with `filter` in their name, so ordered; `reversed`: the other way round. Those that are equal stay as they
/// were.
Json chosen_clients(const Json& clients, const ClientOrder& order, bool reversed,
                    const std::string& filter);

}  // namespace aep
