// Purpose: see pool.hpp.
// Who calls it: see pool.hpp.
// Crash rule: see pool.hpp.
#include "tools/cli/pool.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "node/pool_terms.hpp"
#include "tools/cli/show.hpp"

namespace aep {
namespace {

const char* name_of(PoolMemory memory) {
    switch (memory) {
        case PoolMemory::file:
            return "file";
        case PoolMemory::huge_pages:
            return "huge pages";
        case PoolMemory::device:
            return "device";
    }
    return "?";
}

const char* name_of(Persistence persistence) {
    switch (persistence) {
        case Persistence::none:
            return "volatile";
        case Persistence::kept:
            return "persistent";
        case Persistence::unknown:
            return "unknown";
    }
    return "?";
}

Json json_of(const PoolFacts& f) {
    Json members = Json::array();
    for (const PoolMemberFacts& m : f.members)
        members.push_back({{"node", m.node},
                           {"name", m.name},
                           {"state", m.state},
                           {"generation", m.generation},
                           {"bytes", m.bytes}});
    return {{"path", f.path},
            {"memory", name_of(f.memory)},
            {"persistence", name_of(f.persistence)},
            {"bytes", f.bytes},
            {"room_bytes", f.room_bytes},
            {"present_bytes", f.present},
            {"chunk_bytes", f.chunk_bytes},
            {"free_bytes", f.free_bytes},
            {"kept_bytes", f.kept_bytes},
            {"retired_bytes", f.retired_bytes},
            {"lease_ms", f.terms.lease_ms},
            {"cluster", f.terms.cluster},
            {"coherent", f.terms.coherent == Coherence::yes},
            {"processes", f.processes},
            {"dead_processes", f.dead},
            {"shared",
             {{"bytes", f.shared_bytes},
              {"nodes", f.shape.nodes},
              {"lanes", f.shape.lanes},
              {"objects", f.shape.nodes == 0 ? 0 : f.shape.objects / f.shape.nodes},
              {"messages", f.shape.slots},
              {"clients", f.shape.clients}}},
            {"nodes", members}};
}

std::string text_of(const PoolFacts& f) {
    std::string text;
    const auto line = [&](const char* name, const std::string& value) {
        text += fmt::format("{:<9} {}\n", name, value);
    };
    line("pool", fmt::format("{} ({}{}), {}, {} of them present", f.path, name_of(f.memory),
                             f.persistence == Persistence::kept ? ", persistent" : "",
                             bytes_text(f.bytes), bytes_text(f.present)));
    line("memory",
         fmt::format("{} for heaps, {} free, {} kept for objects of dead nodes{}",
                     bytes_text(f.chunk_bytes), bytes_text(f.free_bytes), bytes_text(f.kept_bytes),
                     f.retired_bytes == 0
                         ? ""
                         : fmt::format(", {} retired, for memory in them has failed",
                                       bytes_text(f.retired_bytes))));
    line("room", f.room_bytes == f.bytes
                     ? std::string("it cannot grow: it has all of its room")
                     : fmt::format("it can grow to {} (aep pool grow)", bytes_text(f.room_bytes)));
    line("shared",
         f.shape.nodes == 0
             ? std::string("nothing: it is too small for several nodes")
             : fmt::format("{} for {} nodes, each of {} lanes, {} objects, {} messages to each "
                           "other node, {} clients",
                           bytes_text(f.shared_bytes), f.shape.nodes, f.shape.lanes,
                           f.shape.objects / f.shape.nodes, f.shape.slots, f.shape.clients));
    line("terms", terms_text(f.terms));
    line("used",
         fmt::format("by {} living processes; of {} dead ones the memory is not taken back yet",
                     f.processes, f.dead));
    for (const PoolMemberFacts& m : f.members)
        line("node", fmt::format("{} ({}): {}, generation {}, {}", m.node, m.name, m.state,
                                 m.generation, bytes_text(m.bytes)));
    return text;
}

}  // namespace

int create_pool(const std::string& path, const PoolPlan& plan, bool json) {
    make_pool(path, plan);
    return show_pool(path, json);
}

int show_pool(const std::string& path, bool json) {
    const PoolFacts facts = look_at_pool(path);
    print(json ? json_text(json_of(facts)) : text_of(facts));
    return 0;
}

int enlarge_pool(const std::string& path, u64 bytes, bool more, bool json) {
    std::signal(SIGXFSZ, SIG_IGN);  // a limit of the file size is an error with a text
    grow_pool(path, bytes, more);
    return show_pool(path, json);
}

int remove_pool(const std::string& path, bool force, bool json) {
    const bool terminal = isatty(STDERR_FILENO) != 0;
    destroy_pool(path, force, [&](u64 done, u64 all) {
        if (terminal)
            std::fprintf(stderr, "\rcleared %s of %s%s", bytes_text(done).c_str(),
                         bytes_text(all).c_str(), done == all ? "\n" : "");
    });
    const bool stays = access(path.c_str(), F_OK) == 0;
    print(json ? json_text({{"ok", true}})
               : "pool " + path + (stays ? " is gone: its memory is cleared\n" : " is gone\n"));
    return 0;
}

}  // namespace aep
