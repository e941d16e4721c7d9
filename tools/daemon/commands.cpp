// Purpose: the commands of the command line, in JSON: {"command": NAME, ...} -> {"ok": true, ...}
// or
//          {"ok": false, "error": TEXT}.
// Who calls it: daemon/server.cpp.
// Crash rule: none needed: a command is done or not done.
#include <errno.h>
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "dsm-core/base/copied.hpp"
#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/era/flush.hpp"
#include "dsm-core/sharing/records.hpp"
#include "node/believed.hpp"
#include "node/capacity.hpp"
#include "node/node_error.hpp"
#include "node/object_survey.hpp"
#include "node/process_facts.hpp"
#include "tools/daemon/drain.hpp"
#include "tools/daemon/objects.hpp"
#include "tools/daemon/server.hpp"

namespace aep {
namespace {

using Json = nlohmann::ordered_json;

const char* name_of(ClientState state) {
    switch (state) {
        case ClientState::free:
            return "free";
        case ClientState::attaching:
            return "attaching";
        case ClientState::live:
            return "live";
        case ClientState::frozen:
            return "frozen";
        case ClientState::recovering:
            return "recovering";
    }
    return "damaged";
}

/// A path may hold any bytes: what is no UTF-8 of them is shown as such.
std::string text_of(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// What the system says of a client's process. The number is a client's word: of other users' processes nothing is told.
Relations see_process(u32 number) {
    const pid_t pid = static_cast<pid_t>(number);
    return number != 0 && is_of_user(pid, context().uid) ? relations_of(pid) : Relations{};
}

/// Clients by their processes.
std::map<pid_t, u32> clients_by_process() {
    std::map<pid_t, u32> clients;
    for (u32 i = 1; i <= context().max_clients; ++i)
        if (const ClientFacts e = facts_of(i); e.state == ClientState::live)
            clients.emplace(static_cast<pid_t>(e.pid), i);
    return clients;
}

/// Operations that the threads of each client have entered so far.
std::vector<u64> operations_by_client() {
    std::vector<u64> sums(context().max_clients + 1);
    for (u32 i = 0; i < context().max_slots; ++i)
        sums[owner_of(slot_at(i)).client()] += copied(slot_at(i).operations);
    return sums;
}

Json clients() {
    Json all = Json::array();
    const u64 now = monotonic_ns();
    const std::vector<u64> operations = operations_by_client();
    const std::map<pid_t, u32> by_process = clients_by_process();
    for (u32 i = 1; i <= context().max_clients; ++i) {
        const ClientFacts e = facts_of(i);
        if (e.state == ClientState::free) continue;
        const Relations process = see_process(e.pid);
        const ClientShares shares = shares_of(i);
        const auto parent = by_process.find(process.parent);
        all.push_back({
            {"client", i},
            {"pid", e.pid},
            {"name", e.name},
            {"state", name_of(e.state)},
            {"bytes", e.chunks * CHUNK_SIZE},
            {"peak_bytes", e.peak * CHUNK_SIZE},
            {"limit_bytes", e.limit},
            {"threads", process.threads},
            {"slots", e.slots},
            {"operations", operations[i]},
            {"parent", parent == by_process.end() ? 0 : parent->second},
            {"private_heap", e.private_heap},
            {"attached_ms", (now - e.attached_ns) / 1'000'000},
            {"attached_as", shares.name},
            {"messages", shares.messages},
            {"message_bytes", shares.message_bytes},
            {"sent", shares.sent},
            {"received", shares.received},
        });
    }
    return all;
}

/// The nodes that share the pool, this one among them; empty: it is none.
Json nodes(const NodeHost& host) {
    Json all = Json::array();
    const Membership* const m = host.membership();
    if (m == nullptr) return all;
    const era::Tables& t = m->tables();
    for (u32 i = 0; i < t.shape.nodes; ++i) {
        const era::NodeWord word{t.node(i).load()};
        if (word.state() == era::NodeState::free) continue;
        const era::NodeEntry& entry = t.entry(i);
        all.push_back({{"node", i + 1},
                       {"name", printable(entry.name, sizeof entry.name)},
                       {"state", m->state_of(i)},
                       {"generation", word.generation()},
                       {"silent_ms", i == m->node() ? 0 : m->silent_ms(i, monotonic_ms())},
                       {"self", i == m->node()},
                       {"draining", draining_json(t, i)}});
    }
    return all;
}

/// Who says that nodes are dead; null: the context is none.
Json membership_of(const NodeHost& host) {
    const Membership* const m = host.membership();
    if (m == nullptr) return nullptr;
    u32 suspects = 0;
    for (u32 i = 0; i < m->tables().shape.nodes; ++i) suspects += m->is_suspect(i) ? 1 : 0;
    return {{"engine", m->engine_name()}, {"quorum", m->has_quorum()}, {"suspects", suspects}};
}

Json pool_of(const NodeHost& host) {
    const PoolHere& pool = host.pool();
    u32 free = 0, own = 0, kept = 0, retired = 0;
    const u32 there = pool.tables.chunks_there();
    for (u32 c = 0; c < there; ++c) {
        const ChunkWord word = pool.tables.chunk(c);
        free += word.bits == FREE_CHUNK.bits;
        own += word.state() == ChunkState::owned && word.node() == pool.owner.node;
        kept += word.state() == ChunkState::kept;
        retired += word.bits == RETIRED_CHUNK.bits;
    }
    const u64 free_bytes = u64{free} * CHUNK_SIZE;
    const Capacity capacity = capacity_of(pool, free_bytes);
    const PoolTerms& terms = pool.file.superblock.terms;
    return {{"path", pool.file.path},
            {"bytes", u64{there} * CHUNK_SIZE},
            {"room_bytes", u64{pool.tables.chunk_count} * CHUNK_SIZE},
            {"free_bytes", free_bytes},
            {"usable_bytes", capacity.usable()},
            {"usable_bound", capacity.bound()},
            {"node_bytes", u64{own} * CHUNK_SIZE},
            {"kept_bytes", u64{kept} * CHUNK_SIZE},
            {"retired_bytes", u64{retired} * CHUNK_SIZE},
            {"lease_ms", terms.lease_ms},
            {"cluster", terms.cluster},
            {"coherent", terms.coherent == Coherence::yes},
            {"written_back", static_cast<era::PoolCaches>(context().pool_caches.load()) !=
                                 era::PoolCaches::coherent},
            {"node", pool.owner.node},
            {"node_generation", pool.owner.generation}};
}

Json client_counts() {
    const ContextHeader& h = context();
    u32 living = 0, frozen = 0, going = 0;
    for (u32 i = 1; i <= h.max_clients; ++i) {
        const ClientState state = facts_of(i).state;
        living += state == ClientState::live || state == ClientState::attaching;
        frozen += state == ClientState::frozen;
        going += state == ClientState::recovering;
    }
    return {{"live", living},
            {"frozen", frozen},
            {"recovering", going},
            {"most", h.max_clients},
            {"attached", h.attached.load()}};
}

Json memory() {
    const ContextHeader& h = context();
    u64 held = 0;  // by clients, or kept for exports of dead ones
    for (u32 c = 0; c < h.chunk_count; ++c) {
        const u32 owner = chunk_owner(c).load(std::memory_order_relaxed);
        held += owner != OWNER_NOBODY && owner != OWNER_CACHED && owner != OWNER_RETURNING &&
                (owner & OWNER_CLAIMING) == 0;
    }
    return {{"held_bytes", held * CHUNK_SIZE},
            {"cached_bytes", chunks_in_cache() * CHUNK_SIZE},
            {"context_limit", h.context_limit.load()},
            {"client_limit", h.client_limit.load()}};
}

Json sharing_counts() {
    const ShareHeader& s = sharing();
    const ShareCounts all = count_shares();
    return {{"objects", all.exports - all.extents},
            {"groups", all.groups},
            {"extents", all.extents},
            {"of_dead_owners", all.orphans},
            {"holders", all.holders},
            {"sent", all.sent},
            {"received", all.received},
            {"sent_to_nodes", u64{s.sent_away}},
            {"received_from_nodes", u64{s.came_in}},
            {"lingering", s.deferred.count + s.visiting.count}};
}

Json recovery_counts(const NodeHost& host) {
    const ContextHeader& h = context();
    const u64 ns = h.recovered_ns.load();
    const u64 bytes = h.recovered_chunks.load() * CHUNK_SIZE;
    return {{"clients", h.recovered.load()},
            {"bytes", bytes},
            {"ns", ns},
            {"bytes_a_second", ns == 0 ? 0
                                       : static_cast<u64>(static_cast<double>(bytes) * 1e9 /
                                                          static_cast<double>(ns))},
            {"captured", h.captured.load()},
            {"completed", h.completed.load()},
            {"undone", h.undone.load()},
            {"broken", host.broken_domains()}};
}

/// Of the context: suspect is one whose node may be taken for dead.
const char* state_of(const NodeHost& host) {
    if (host.poisoned()) return "poisoned";
    if (host.fenced()) return "fenced";
    return host.membership() != nullptr && !host.membership()->has_quorum() ? "suspect" : "live";
}

Json status(const NodeHost& host, u64 began_ns) {
    const ContextPaths& paths = host.options().paths;
    return {
        {"context", paths.name},
        {"state", state_of(host)},
        {"poison", host.poison_text()},
        {"provider", provider_name(host.provider())},
        {"protection", protection_by(host.provider())},
        {"pid", getpid()},
        {"uptime_ms", (monotonic_ns() - began_ns) / 1'000'000},
        {"directory", paths.directory},
        {"socket", paths.socket},
        {"version", AEP_VERSION},
        {"pool", pool_of(host)},
        {"clients", client_counts()},
        {"memory", memory()},
        {"sharing", sharing_counts()},
        {"nodes", nodes(host)},
        {"membership", membership_of(host)},
        {"damaged_words", host.membership() == nullptr ? 0 : host.membership()->damaged()},
        {"recovery", recovery_counts(host)},
    };
}

Json findings_of(NodeHost& host) {
    Json all = Json::array();
    for (const Finding& f : host.check()) {
        all.push_back(
            {{"where", f.where}, {"what", f.what}, {"found", f.found}, {"expected", f.expected}});
    }
    return all;
}

}  // namespace

std::string Server::refusal(const std::string& why) {
    return text_of(Json{{"ok", false}, {"error", why}});
}

/// {"command": "node-dead", "node": NUMBER, "generation": NUMBER}: recovers a node that somebody has cut off.
std::string Server::declare_dead(const nlohmann::ordered_json& request) {
    const Json node = request.value("node", Json(0)),
               generation = request.value("generation", Json(0));
    constexpr u64 MOST = 0xffff'ffff;
    if (!node.is_number_unsigned() || !generation.is_number_unsigned() || node < 1 || node > MOST ||
        generation < 1 || generation > MOST)
        return refusal("node, generation: expected numbers from 1 on");
    const u32 index = node.get<u32>() - 1;
    if (const std::string why = host_.declare_dead(index, generation.get<u32>(), monotonic_ms());
        !why.empty())
        return refusal(why);
    log_(LogLevel::warning, fmt::format("node {} of generation {} is cut off, as somebody says",
                                        index + 1, generation.get<u32>()));
    const u32 recovered = sweep().nodes_recovered;
    return text_of(Json{{"ok", true}, {"nodes_recovered", recovered}});
}

std::string Server::command(const std::string& text, Connection& connection) {
    const auto refuse = [](const std::string& why) { return refusal(why); };
    if (connection.uid() != context().uid && connection.uid() != 0)
        return refuse(
            fmt::format("the context belongs to user {}: be that one, or root", context().uid));
    const Json request = Json::parse(text, nullptr, false);
    if (!request.is_object() || !request.contains("command") || !request["command"].is_string())
        return refuse("not understood: expected {\"command\": NAME}");
    const std::string name = request["command"];
    Json answer{{"ok", true}};
    if (name == "ping") {
        // That it answers is the answer.
    } else if (name == "status") {
        answer["status"] = status(host_, began_ns_);
    } else if (name == "clients") {
        answer["clients"] = clients();
    } else if (name == "top") {
        answer["status"] = status(host_, began_ns_);
        answer["clients"] = clients();
    } else if (name == "objects") {
        const Json most = request.value("most", Json(20));
        if (!most.is_number_unsigned() || most > MOST_OBJECTS_TOLD)
            return refuse(fmt::format("most: expected a number up to {}", MOST_OBJECTS_TOLD));
        answer["objects"] = objects_told(host_, most);
    } else if (name == "check") {
        answer["findings"] = findings_of(host_);
    } else if (name == "recover") {
        const Sweep done = sweep();
        answer["recovered"] = {{"clients", done.recovered},
                               {"chunks", done.chunks_recovered},
                               {"chunks_returned", done.chunks_returned},
                               {"chunks_of_dead_nodes", done.nodes_reclaimed_chunks}};
    } else if (name == "node-dead") {
        return declare_dead(request);
    } else if (name == "node-drain") {
        answer = drain_node(host_, request);
        sweep();
    } else if (name == "down") {
        const Json wanted = request.value("force", Json(false));
        if (!wanted.is_boolean()) return refuse("force: expected true or false");
        const bool force = wanted;
        sweep();
        const bool lives = host_.somebody_lives();
        // For operations of the dead that may never be completed nobody has to wait.
        if (!force && host_.somebody_is_left() && (lives || !completion_.fails())) {
            const char* why =
                lives ? "clients live" : "its last clients' operations are being completed";
            answer = {{"ok", false}, {"error", why}, {"soon", !lives}, {"clients", clients()}};
        } else {
            log_(LogLevel::info, force ? "taken down, by force" : "taken down");
            ends_ = removes_ = true;
        }
    } else {
        return refuse(
            fmt::format("no command '{}': is this daemon of another version than aep?", name));
    }
    return text_of(answer);
}

}  // namespace aep
