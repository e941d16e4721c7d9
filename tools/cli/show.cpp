// Purpose: see show.hpp.
// Who calls it: cli/commands.cpp.
// Crash rule: none needed.
#include "tools/cli/show.hpp"

#include <fmt/format.h>

namespace aep {
namespace {

std::string limit_text(u64 bytes) { return bytes == 0 ? "none" : bytes_text(bytes); }

/// What keeps the rest of the pool's free memory back; empty: nothing does.
std::string bound_text(const Json& pool) {
    const std::string bound = pool.at("usable_bound");
    if (bound == "pool") return "";
    return fmt::format(" (the {} has no more; {} of the pool are free)", bound,
                       bytes_text(pool.at("free_bytes")));
}

std::string duration_text(u64 ms) {
    const u64 s = ms / 1000;
    if (s < 60) return fmt::format("{}.{} s", s, ms % 1000 / 100);
    if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
    return fmt::format("{} h {} min", s / 3600, s / 60 % 60);
}

/// What waits for it: "12, 48 KiB".
std::string mailbox_text(const Json& client) {
    const u64 messages = client.at("messages");
    return messages == 0 ? "-"
                         : fmt::format("{}, {}", messages, bytes_text(client.at("message_bytes")));
}

/// So many of something a second, where there was an earlier look.
std::string rate_text(const Json& client, const char* rates) {
    const Json rate = client.value(rates, Json());
    return rate.is_number() ? fmt::format("{:.0f}", rate.get<double>()) : "-";
}

std::string node_text(const Json& node) {
    const std::string name = node.at("name");
    const Json& draining = node.at("draining");
    const std::string leaves =
        !draining.is_object() ? ""
        : draining.at("clients").is_null()
            ? ", leaves"
            : fmt::format(", leaves: {} clients, {} objects held by others",
                          draining.at("clients").get<u64>(), draining.at("objects").get<u64>());
    return fmt::format("{}{}: {}, generation {}{}{}", node.at("node").get<u64>(),
                       name.empty() ? "" : " (" + name + ")", node.at("state").get<std::string>(),
                       node.at("generation").get<u64>(),
                       node.at("self").get<bool>() ? ", this one"
                       : node.at("state") == "suspect"
                           ? ", silent for " + duration_text(node.at("silent_ms"))
                           : "",
                       leaves);
}

/// Memory that has failed, if there is any.
std::string retired_text(const Json& pool) {
    const u64 bytes = pool.at("retired_bytes");
    return bytes == 0 ? ""
                      : fmt::format("; {} retired, for memory in them has failed: see the log",
                                    bytes_text(bytes));
}

std::string membership_text(const Json& membership) {
    const u64 suspects = membership.at("suspects");
    return fmt::format("judged by {}{}{}", membership.at("engine").get<std::string>(),
                       membership.at("quorum").get<bool>()
                           ? ""
                           : "; no quorum: nothing is shared with other nodes until there is",
                       suspects == 0
                           ? ""
                           : "; a suspect is waited for: once it is cut off, aep node dead NUMBER "
                             "--generation GENERATION");
}

}  // namespace

std::string json_text(const Json& json, int indent) {
    return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

void print(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
}

void print(const Json& json) { print(json_text(json)); }

std::string bytes_text(u64 bytes) {
    constexpr const char* UNITS[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = static_cast<double>(bytes);
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < std::size(UNITS)) {
        value /= 1024;
        ++unit;
    }
    const bool whole = value == static_cast<double>(static_cast<u64>(value)) || value >= 100;
    return fmt::format("{:.{}f} {}", value, whole ? 0 : 1, UNITS[unit]);
}

std::string status_text(const Json& s) {
    const Json &pool = s.at("pool"), &clients = s.at("clients"), &memory = s.at("memory"),
               &recovery = s.at("recovery");
    std::string text;
    const auto line = [&](const char* name, const std::string& value) {
        text += fmt::format("{:<9} {}\n", name, value);
    };
    line("context",
         fmt::format("{} ({}), {}", s.at("context").get<std::string>(),
                     s.at("state").get<std::string>(), s.at("directory").get<std::string>()));
    if (const std::string poison = s.at("poison"); !poison.empty()) line("poison", poison);
    line("daemon",
         fmt::format("pid {}, up {}", s.at("pid").get<u64>(), duration_text(s.at("uptime_ms"))));
    line("provider", fmt::format("{}: {}", s.at("provider").get<std::string>(),
                                 s.at("protection").get<std::string>()));
    line("pool", fmt::format("{}: {}, {} this node's; {} can be had{}{}",
                             pool.at("path").get<std::string>(), bytes_text(pool.at("bytes")),
                             bytes_text(pool.at("node_bytes")), bytes_text(pool.at("usable_bytes")),
                             bound_text(pool), retired_text(pool)));
    for (const Json& node : s.at("nodes")) line("node", node_text(node));
    if (const Json& membership = s.at("membership"); membership.is_object())
        line("members", membership_text(membership));
    line("clients", fmt::format("{} live, {} frozen, {} recovering (at most {}); {} so far",
                                clients.at("live").get<u64>(), clients.at("frozen").get<u64>(),
                                clients.at("recovering").get<u64>(), clients.at("most").get<u64>(),
                                clients.at("attached").get<u64>()));
    line(
        "memory",
        fmt::format("{} held, {} cached; limits: context {}, client {}",
                    bytes_text(memory.at("held_bytes")), bytes_text(memory.at("cached_bytes")),
                    limit_text(memory.at("context_limit")), limit_text(memory.at("client_limit"))));
    const Json& sharing = s.at("sharing");
    line("sharing",
         fmt::format(
             "{} objects, {} of them groups; {} of dead owners; {} holders; {} sent, {} received",
             sharing.at("objects").get<u64>(), sharing.at("groups").get<u64>(),
             sharing.at("of_dead_owners").get<u64>(), sharing.at("holders").get<u64>(),
             sharing.at("sent").get<u64>(), sharing.at("received").get<u64>()));
    line("recovery",
         fmt::format("{} clients, {}, {}/s; {} operations completed of {}; {} undone; {} broken",
                     recovery.at("clients").get<u64>(), bytes_text(recovery.at("bytes")),
                     bytes_text(recovery.at("bytes_a_second")), recovery.at("completed").get<u64>(),
                     recovery.at("captured").get<u64>(), recovery.at("undone").get<u64>(),
                     recovery.at("broken").get<u64>()));
    return text;
}

std::string rates_text(const Json& rates) {
    const auto rate = [&](const char* name) { return rates.at(name).get<double>(); };
    return fmt::format(
        "{:<9} {:.0f} sent, {:.0f} received, {:.0f} to and {:.0f} from nodes; {:.1f} clients come, "
        "{:.1f} recovered; "
        "{:.1f} operations completed, {:.1f} undone\n",
        "a second", rate("sent"), rate("received"), rate("sent_to_nodes"),
        rate("received_from_nodes"), rate("attached"), rate("recovered"), rate("completed"),
        rate("undone"));
}

std::string clients_text(const Json& clients) {
    constexpr const char* ROW =
        "{:>6} {:>8} {:>6}  {:<15} {:<10} {:>10} {:>10} {:>10} {:>7} {:>5} {:>8} {:>8} {:>8}  "
        "{:<8} "
        "{:<9} {:>16} {}\n";
    std::string text = fmt::format(fmt::runtime(ROW), "client", "pid", "parent", "name", "state",
                                   "held", "peak", "limit", "threads", "slots", "op/s", "sent/s",
                                   "recv/s", "heap", "attached", "mailbox", "as");
    for (const Json& c : clients) {
        const u64 parent = c.at("parent");
        const std::string attached_as = c.at("attached_as");
        text += fmt::format(fmt::runtime(ROW), c.at("client").get<u64>(), c.at("pid").get<u64>(),
                            parent == 0 ? "-" : fmt::to_string(parent),
                            c.at("name").get<std::string>(), c.at("state").get<std::string>(),
                            bytes_text(c.at("bytes")), bytes_text(c.at("peak_bytes")),
                            limit_text(c.at("limit_bytes")), c.at("threads").get<u64>(),
                            c.at("slots").get<u64>(), rate_text(c, "operations_a_second"),
                            rate_text(c, "sent_a_second"), rate_text(c, "received_a_second"),
                            c.at("private_heap").get<bool>() ? "private" : "joined",
                            duration_text(c.at("attached_ms")), mailbox_text(c),
                            attached_as.empty() ? "-" : attached_as);
    }
    return text;
}

std::string findings_text(const Json& findings) {
    std::string text;
    for (const Json& f : findings) {
        text += fmt::format("{}: {} (found {:#x}, expected {:#x})\n",
                            f.at("where").get<std::string>(), f.at("what").get<std::string>(),
                            f.at("found").get<u64>(), f.at("expected").get<u64>());
    }
    return text;
}

}  // namespace aep
