// Purpose: see drain.hpp.
// Who calls it: see drain.hpp.
// Crash rule: see drain.hpp.
#include "tools/daemon/drain.hpp"

#include <fmt/format.h>

#include "node/draining.hpp"

namespace aep {
namespace {

using Json = nlohmann::ordered_json;

Json refusal(const std::string& why) { return {{"ok", false}, {"error", why}}; }

}  // namespace

Json drain_node(const NodeHost& host, const Json& request) {
    const Membership* const m = host.membership();
    if (m == nullptr)
        return refusal(
            "the context is no node of its pool: ask one that is (aep up --pool PATH --node N)");
    const Json number = request.value("node", Json(0)), wait = request.value("wait", Json(false)),
               cancel = request.value("cancel", Json(false));
    const era::Tables& t = m->tables();
    if (!number.is_number_unsigned() || number < 1 || number > t.shape.nodes)
        return refusal(
            fmt::format("node: the pool has nodes 1 to {}: give one of them", t.shape.nodes));
    if (!wait.is_boolean() || !cancel.is_boolean())
        return refusal("wait, cancel: expected true or false");
    const u32 node = number.get<u32>() - 1;
    const std::string name = fmt::format("node {}", node + 1);
    if (!era::is_live(t, node))
        return refusal(name + " is nobody: there is nothing to drain (aep status shows the nodes)");
    if (cancel.get<bool>()) {
        wish_to_stay(t, node);
    } else if (m->state_of(node) != std::string("live")) {
        return refusal(fmt::format(
            "{} is {}: nobody is there to drain it; its memory comes back when it is known to be "
            "dead (aep node dead)",
            name, m->state_of(node)));
    } else {
        wish_to_drain(t, node, wait.get<bool>());
    }
    return {{"ok", true},
            {"self", node == m->node()},
            {"generation", era::NodeWord{t.node(node).load()}.generation()}};
}

Json draining_json(const era::Tables& t, u32 node) {
    const Draining d = draining_of(t, node);
    if (!d.wished) return nullptr;
    const auto left = [&](u64 number) { return d.said ? Json(number) : Json(nullptr); };
    return {{"clients", left(d.clients)}, {"objects", left(d.objects)}, {"waits", d.waits}};
}

}  // namespace aep
