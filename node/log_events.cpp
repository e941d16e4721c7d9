// Purpose: what operations have written into the context's ring, as lines of the log.
// Who calls it: the host's sweep.
// Crash rule: reads only. What a daemon has not yet said when it dies, the next one says again or
//             not at all.
#include <map>

#include "node/believed.hpp"
#include "node/host.hpp"

namespace aep {
namespace {

/// At most so many lines for one look at the ring.
constexpr u32 MOST_LINES = 64;

std::string mib(u64 bytes) { return std::to_string(bytes >> 20) + " MiB"; }

std::string text_of(const LogEntry& e) {
    const std::string chunks = mib(e.a * CHUNK_SIZE);
    switch (e.event) {
        case Event::client_limit:
            return "asked for " + chunks + " beyond its limit of " + mib(e.b);
        case Event::context_limit:
            return "asked for " + chunks + " beyond the context's limit of " + mib(e.b);
        case Event::no_run:
            return "asked for " + chunks + ", which the pool does not have in one piece";
        case Event::not_its_chunk:
            return "gave back chunk " + std::to_string(e.a) + ", which it does not have";
        case Event::refused:
            return "was refused operation " + std::to_string(e.a) + ": the context is poisoned";
        case Event::unknown_number:
            return "called operation " + std::to_string(e.a) + ", which does not exist";
        case Event::none:
        case Event::count:
            break;
    }
    return "wrote a record of unknown kind " + std::to_string(static_cast<u32>(e.event));
}

}  // namespace

void NodeHost::log_events() {
    struct Seen {
        LogEntry last;
        u64 times = 0;
    };
    std::map<std::pair<u32, u32>, Seen> seen;  // by client and event
    u64 lost = log_reader_.read(log_ring(), [&](const LogEntry& entry) {
        Seen& s = seen[{entry.client, static_cast<u32>(entry.event)}];
        s.last = entry;
        ++s.times;
    });
    u32 lines = 0;
    for (const auto& [key, s] : seen) {
        // Records of clients and kinds that are none would otherwise fill the log.
        if (++lines > MOST_LINES) {
            lost += seen.size() - MOST_LINES;
            break;
        }
        const u32 client = key.first;
        const bool known = client != 0 && client <= context().max_clients;
        const ClientFacts facts = known ? facts_of(client) : ClientFacts{};
        std::string line = "client " + std::to_string(client);
        if (facts.pid != 0) line += " (" + facts.name + ", pid " + std::to_string(facts.pid) + ")";
        line += " " + text_of(s.last);
        if (s.times > 1) line += " (" + std::to_string(s.times) + " times, the last of them)";
        log_(LogLevel::warning, line);
    }
    if (lost != 0) {
        log_(LogLevel::warning, std::to_string(lost) + " records of operations were lost");
    }
}

}  // namespace aep
