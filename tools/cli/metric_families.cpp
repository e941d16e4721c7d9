// Purpose: see metric_families.hpp.
// Who calls it: see metric_families.hpp.
// Crash rule: see metric_families.hpp.
#include "tools/cli/metric_families.hpp"

#include <array>

namespace aep {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

/// A number that is one place in the status, or in a client's line.
struct Metric {
    const char *name, *help;
    MetricType type;
    const char* place;
    double scale = 1;
};

constexpr auto COUNTER = MetricType::Counter;
constexpr auto GAUGE = MetricType::Gauge;
constexpr double FROM_MS = 1e-3, FROM_NS = 1e-9;

constexpr std::array OF_CONTEXT{
    Metric{"aep_uptime_seconds", "How long its daemon has run.", GAUGE, "/uptime_ms", FROM_MS},
    Metric{"aep_pool_bytes", "Size of the pool.", GAUGE, "/pool/bytes"},
    Metric{"aep_pool_free_bytes", "Memory of the pool that nobody has.", GAUGE, "/pool/free_bytes"},
    Metric{"aep_pool_usable_bytes",
           "What of that can be had: the least of pool, file system, cgroup and machine.", GAUGE,
           "/pool/usable_bytes"},
    Metric{"aep_pool_node_bytes", "Memory of the pool that is this node's.", GAUGE,
           "/pool/node_bytes"},
    Metric{"aep_pool_kept_bytes", "Memory kept for objects of dead nodes.", GAUGE,
           "/pool/kept_bytes"},
    Metric{"aep_pool_retired_bytes", "Chunks that nobody gets, for memory in them has failed.",
           GAUGE, "/pool/retired_bytes"},
    Metric{"aep_clients_most", "Clients that the context has room for.", GAUGE, "/clients/most"},
    Metric{"aep_clients_attached_total", "Clients so far.", COUNTER, "/clients/attached"},
    Metric{"aep_memory_held_bytes",
           "Memory that clients hold, or that is kept for what dead ones shared.", GAUGE,
           "/memory/held_bytes"},
    Metric{"aep_memory_cached_bytes", "Memory that the node keeps for the next client.", GAUGE,
           "/memory/cached_bytes"},
    Metric{"aep_memory_limit_bytes", "What all clients may hold; 0: no limit.", GAUGE,
           "/memory/context_limit"},
    Metric{"aep_objects", "Shared objects and groups.", GAUGE, "/sharing/objects"},
    Metric{"aep_groups", "Groups of objects.", GAUGE, "/sharing/groups"},
    Metric{"aep_objects_of_dead_owners", "Shared objects whose owner is dead.", GAUGE,
           "/sharing/of_dead_owners"},
    Metric{"aep_objects_lingering", "Objects kept for other nodes, or in case they come again.",
           GAUGE, "/sharing/lingering"},
    Metric{"aep_holders", "Pairs of a client and an object that it refers to.", GAUGE,
           "/sharing/holders"},
    Metric{"aep_messages_sent_total", "Messages sent within the node.", COUNTER, "/sharing/sent"},
    Metric{"aep_messages_received_total", "Messages received.", COUNTER, "/sharing/received"},
    Metric{"aep_messages_sent_to_nodes_total", "Messages sent to other nodes.", COUNTER,
           "/sharing/sent_to_nodes"},
    Metric{"aep_messages_received_from_nodes_total", "Messages received from other nodes.", COUNTER,
           "/sharing/received_from_nodes"},
    Metric{"aep_damaged_words_total", "Words of dead nodes that no sound node wrote.", COUNTER,
           "/damaged_words"},
    Metric{"aep_recovered_clients_total", "Dead clients that were taken back.", COUNTER,
           "/recovery/clients"},
    Metric{"aep_recovered_bytes_total", "Memory that they had.", COUNTER, "/recovery/bytes"},
    Metric{"aep_recovery_seconds_total", "Time that this took.", COUNTER, "/recovery/ns", FROM_NS},
    Metric{"aep_operations_captured_total",
           "Operations that were open when their thread was killed.", COUNTER,
           "/recovery/captured"},
    Metric{"aep_operations_completed_total", "Those that were completed.", COUNTER,
           "/recovery/completed"},
    Metric{"aep_operations_undone_total", "Those that were undone.", COUNTER, "/recovery/undone"},
    Metric{"aep_broken_heaps_total",
           "Heaps of dead clients that were broken (daemons with --verify).", COUNTER,
           "/recovery/broken"},
};

constexpr std::array OF_CLIENT{
    Metric{"aep_client_held_bytes", "Memory that the client holds.", GAUGE, "/bytes"},
    Metric{"aep_client_peak_bytes", "The most that it held.", GAUGE, "/peak_bytes"},
    Metric{"aep_client_limit_bytes", "What it may hold; 0: no limit.", GAUGE, "/limit_bytes"},
    Metric{"aep_client_threads", "Threads of its process.", GAUGE, "/threads"},
    Metric{"aep_client_attached_seconds", "How long it has been attached.", GAUGE, "/attached_ms",
           FROM_MS},
};

ClientMetric sample(MetricType type, Labels labels, double value) {
    ClientMetric m;
    m.label = std::move(labels);
    (type == COUNTER ? m.counter.value : m.gauge.value) = value;
    return m;
}

/// So many in each of some states.
MetricFamily by_state(const char* name, const char* help, const Labels& labels,
                      const std::vector<std::pair<std::string, double>>& states) {
    MetricFamily family{name, help, GAUGE, {}};
    for (const auto& [state, value] : states) {
        Labels all = labels;
        all.push_back({"state", state});
        family.metric.push_back(sample(GAUGE, std::move(all), value));
    }
    return family;
}

double number(const Json& object, const Metric& metric) {
    return object.at(Json::json_pointer(metric.place)).get<double>() * metric.scale;
}

void add_context(std::vector<MetricFamily>& all, const Labels& labels, const Json& status) {
    Labels info = labels;
    info.push_back({"version", status.at("version")});
    info.push_back({"provider", status.at("provider")});
    all.push_back({"aep_info",
                   "Its version, and what keeps operations of the killed whole.",
                   GAUGE,
                   {sample(GAUGE, std::move(info), 1)}});
    std::vector<std::pair<std::string, double>> states;
    for (const char* state : {"live", "suspect", "poisoned", "fenced"})
        states.emplace_back(state, status.at("state") == state);
    all.push_back(by_state("aep_state", "1: the context is in that state.", labels, states));
    states.clear();
    for (const char* state : {"live", "frozen", "recovering"})
        states.emplace_back(state, status.at("clients").at(state).get<double>());
    all.push_back(by_state("aep_clients", "Clients in each state.", labels, states));
    for (const Metric& m : OF_CONTEXT)
        all.push_back({m.name, m.help, m.type, {sample(m.type, labels, number(status, m))}});
}

void add_nodes(std::vector<MetricFamily>& all, const Labels& labels, const Json& nodes) {
    if (nodes.empty()) return;
    MetricFamily live{
        "aep_node_live", "1: the node of the pool lives; 0: it is taken back.", GAUGE, {}};
    for (const Json& node : nodes) {
        Labels own = labels;
        own.push_back({"node", node.at("node").dump()});
        own.push_back({"name", node.at("name")});
        live.metric.push_back(sample(GAUGE, std::move(own), node.at("state") == "live"));
    }
    all.push_back(std::move(live));
    MetricFamily states{"aep_node_state", "1: the node of the pool is in that state.", GAUGE, {}};
    for (const Json& node : nodes) {
        for (const char* state : {"live", "suspect", "fenced", "dead"}) {
            Labels own = labels;
            own.push_back({"node", node.at("node").dump()});
            own.push_back({"name", node.at("name")});
            own.push_back({"state", state});
            states.metric.push_back(sample(GAUGE, std::move(own), node.at("state") == state));
        }
    }
    all.push_back(std::move(states));
}

void add_membership(std::vector<MetricFamily>& all, const Labels& labels, const Json& membership) {
    if (!membership.is_object()) return;
    all.push_back({"aep_quorum",
                   "1: the node is on the side that may go on; 0: it shares nothing with others.",
                   GAUGE,
                   {sample(GAUGE, labels, membership.at("quorum").get<bool>())}});
}

void add_clients(std::vector<MetricFamily>& all, const Labels& labels, const Json& clients) {
    if (clients.empty()) return;
    for (const Metric& m : OF_CLIENT) {
        MetricFamily family{m.name, m.help, m.type, {}};
        for (const Json& client : clients) {
            Labels own = labels;
            own.push_back({"client", client.at("client").dump()});
            own.push_back({"pid", client.at("pid").dump()});
            own.push_back({"name", client.at("name")});
            family.metric.push_back(sample(m.type, std::move(own), number(client, m)));
        }
        all.push_back(std::move(family));
    }
}

}  // namespace

std::vector<MetricFamily> metric_families(const std::string& context, const Json& answer) {
    const Labels labels{{"context", context}};
    std::vector<MetricFamily> all{{"aep_up",
                                   "1: the context's daemon answers.",
                                   GAUGE,
                                   {sample(GAUGE, labels, answer.is_object())}}};
    if (!answer.is_object()) return all;
    const Json& status = answer.at("status");
    add_context(all, labels, status);
    add_nodes(all, labels, status.at("nodes"));
    add_membership(all, labels, status.at("membership"));
    add_clients(all, labels, answer.at("clients"));
    return all;
}

}  // namespace aep
