// Purpose: see objects.hpp.
// Who calls it: see objects.hpp.
// Crash rule: see objects.hpp.
#include "tools/cli/objects.hpp"

#include <fmt/format.h>

#include <cstdio>

#include "tools/cli/show.hpp"

namespace aep {
namespace {

std::string client_text(const Json& client) {
    return fmt::format("{} (client {}, pid {})", client.at("name").get<std::string>(),
                       client.at("client").get<u64>(), client.at("pid").get<u64>());
}

std::string owner_text(const Json& object) {
    const std::string owner_is = object.at("owner_is");
    return owner_is == "living" ? client_text(object.at("owner")) : owner_is;
}

std::string object_text(const Json& o) {
    std::string text =
        fmt::format("{:#014x} {:>10}  ", o.at("address").get<u64>(), bytes_text(o.at("bytes")));
    if (o.at("group").get<bool>())
        text += fmt::format("group of {} extents, ", o.at("extents").get<u64>());
    text += "owner " + owner_text(o);
    if (const u64 deferred = o.at("deferred_bytes"); deferred != 0)
        text += fmt::format(", {} of it freed and kept for readers", bytes_text(deferred));
    if (o.at("lingers").get<bool>()) text += ", held by nobody here; other nodes may";
    text += '\n';
    const Json& held = o.at("held_by");
    for (const Json& h : held) {
        const u64 references = h.at("references"), messages = h.at("messages");
        text += fmt::format("{:>27}held by {}: {} reference{}", "", client_text(h), references,
                            references == 1 ? "" : "s");
        if (messages != 0) text += fmt::format(", {} of them in its mailbox", messages);
        text += '\n';
    }
    if (const u64 all = o.at("holders"); all > held.size())
        text += fmt::format("{:>27}and {} clients more\n", "", all - held.size());
    return text;
}

std::string shares_text(const Json& clients) {
    constexpr const char* ROW =
        "{:>6} {:>8}  {:<15} {:<20} {:>8} {:>10} {:>8} {:>10} {:>8} {:>10}\n";
    std::string text = fmt::format(fmt::runtime(ROW), "client", "pid", "name", "attached as",
                                   "messages", "bytes", "holds", "bytes", "owns", "bytes");
    for (const Json& c : clients) {
        const std::string attached_as = c.at("attached_as");
        text +=
            fmt::format(fmt::runtime(ROW), c.at("client").get<u64>(), c.at("pid").get<u64>(),
                        c.at("name").get<std::string>(), attached_as.empty() ? "-" : attached_as,
                        c.at("messages").get<u64>(), bytes_text(c.at("message_bytes")),
                        c.at("objects_held").get<u64>(), bytes_text(c.at("bytes_held")),
                        c.at("objects_owned").get<u64>(), bytes_text(c.at("bytes_owned")));
    }
    return text;
}

}  // namespace

std::string objects_text(const Json& o) {
    std::string text;
    const auto sum = [&](const char* name, const char* key, const char* what) {
        const Json& of = o.at(key);
        text += fmt::format("{:<14} {} objects, {}{}\n", name, of.at("objects").get<u64>(),
                            bytes_text(of.at("bytes")), what);
    };
    sum("shared", "all", fmt::format("; {} of them are groups", o.at("groups").get<u64>()).c_str());
    sum("dead owners'", "of_dead_owners", ": only others' references keep them");
    sum("other nodes'", "of_other_nodes", "");
    sum("lingering", "lingering", ": nobody here refers to them, but other nodes may");
    sum("returned", "returned", ": nobody refers to them; their owners have still to free them");
    sum("deferred", "deferred", " of groups: freed by their writers, kept for readers");
    if (const u64 damaged = o.at("damaged_records"); damaged != 0) {
        text += fmt::format(
            "{:<14} {} records make no sense: a client has written to them; they are in no sum; "
            "aep "
            "check says what is wrong\n",
            "damaged", damaged);
    }
    if (const Json& clients = o.at("clients"); !clients.empty())
        text += '\n' + shares_text(clients);
    if (const Json& largest = o.at("largest"); !largest.empty()) {
        text += "\nThe largest:\n";
        for (const Json& object : largest) text += object_text(object);
    }
    if (!o.at("quiet").get<bool>())
        text += "\nClients were at work meanwhile: what is above may be of several moments.\n";
    return text;
}

int show_objects(const Target& target, u64 most) {
    const Json objects = must_get(target, {{"command", "objects"}, {"most", most}}, "objects");
    target.json ? print(objects) : print(objects_text(objects));
    if (objects.at("complete").get<bool>()) return 0;
    std::fputs("aep: the walk did not come to its end in time: this is not all; repeat it\n",
               stderr);
    return EXIT_WRONG;
}

}  // namespace aep
