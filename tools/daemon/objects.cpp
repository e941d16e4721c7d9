// Purpose: see objects.hpp.
// Who calls it: see objects.hpp.
// Crash rule: see objects.hpp.
#include "tools/daemon/objects.hpp"

#include <map>

#include "node/believed.hpp"

namespace aep {
namespace {

using Json = nlohmann::ordered_json;
constexpr u64 LONGEST_SURVEY_NS = 2'000'000'000;

Json sum_of(const ObjectSum& sum) { return {{"objects", sum.objects}, {"bytes", sum.bytes}}; }

/// Who a client is, as far as its entry says. Clients of a survey may have gone since.
class Clients {
  public:
    Json of(u32 client) {
        if (client == 0) return {{"client", 0}, {"pid", 0}, {"name", ""}};
        auto known = known_.find(client);
        if (known == known_.end()) known = known_.emplace(client, facts_of(client)).first;
        return {{"client", client}, {"pid", known->second.pid}, {"name", known->second.name}};
    }

  private:
    std::map<u32, ClientFacts> known_;
};

const char* kind_of(const SharedObject& o) {
    if (o.owner == OWNER_ELSEWHERE) return "another node's";
    return o.owner == 0 ? "dead" : "living";
}

Json object_told(const SharedObject& o, Clients& clients) {
    Json held = Json::array();
    for (const Held& h : o.held) {
        Json one = clients.of(h.client);
        one["references"] = h.references;
        one["messages"] = h.messages;
        held.push_back(std::move(one));
    }
    const bool elsewhere = o.owner == OWNER_ELSEWHERE;
    return {{"address", o.address},
            {"bytes", o.bytes},
            {"group", o.extents != 0},
            {"extents", o.extents},
            {"deferred_bytes", o.deferred},
            {"writer", o.writer},
            {"owner", clients.of(elsewhere ? 0 : o.owner)},
            {"owner_is", kind_of(o)},
            {"lingers", o.lingers},
            {"references", o.references},
            {"holders", o.holders},
            {"held_by", std::move(held)}};
}

}  // namespace

Json objects_told(const NodeHost& host, u64 most) {
    const ObjectSurvey seen = host.survey_objects(most, LONGEST_SURVEY_NS);
    Clients clients;
    Json largest = Json::array(), shares = Json::array();
    for (const SharedObject& o : seen.largest) largest.push_back(object_told(o, clients));
    for (const ClientShares& c : seen.clients) {
        Json one = clients.of(c.client);
        one["attached_as"] = c.name;
        one["messages"] = c.messages;
        one["message_bytes"] = c.message_bytes;
        one["objects_held"] = c.objects_held;
        one["bytes_held"] = c.bytes_held;
        one["objects_owned"] = c.objects_owned;
        one["bytes_owned"] = c.bytes_owned;
        shares.push_back(std::move(one));
    }
    return {{"complete", seen.complete},
            {"quiet", seen.quiet},
            {"all", sum_of(seen.all)},
            {"groups", seen.groups},
            {"of_dead_owners", sum_of(seen.of_the_dead)},
            {"of_other_nodes", sum_of(seen.elsewhere)},
            {"lingering", sum_of(seen.lingering)},
            {"returned", sum_of(seen.returned)},
            {"deferred", sum_of(seen.deferred)},
            {"damaged_records", seen.damaged},
            {"largest", std::move(largest)},
            {"clients", std::move(shares)}};
}

}  // namespace aep
