// Purpose: see event_log.hpp.
// Who calls it: see event_log.hpp.
// Crash rule: see event_log.hpp.
#include "node/event_log.hpp"

#include <fmt/format.h>

#include <map>

#include "node/believed.hpp"

namespace aep {
namespace {

/// At most so many lines for one look at the ring.
constexpr u32 MOST_LINES = 64;

std::string mib(u64 bytes) { return fmt::format("{} MiB", bytes >> 20); }

std::string text_of(const LogEntry& e) {
    const std::string chunks = mib(e.a * CHUNK_SIZE);
    switch (e.event) {
        case Event::client_limit:
            return fmt::format("asked for {} beyond its limit of {}", chunks, mib(e.b));
        case Event::context_limit:
            return fmt::format("asked for {} beyond the context's limit of {}", chunks, mib(e.b));
        case Event::no_run:
            return fmt::format("asked for {}, which the pool does not have in one piece", chunks);
        case Event::not_its_chunk:
            return fmt::format("gave back chunk {}, which it does not have", e.a);
        case Event::refused:
            return fmt::format("was refused operation {}: the context is poisoned", e.a);
        case Event::unknown_number:
            return fmt::format("called operation {}, which does not exist", e.a);
        case Event::memory_failed:
            return fmt::format(
                "got SIGBUS for memory of the pool at {:#x} (code {}): it ends, unless it handles "
                "that",
                e.a, e.b);
        case Event::none:
        case Event::count:
            break;
    }
    return fmt::format("wrote a record of unknown kind {}", static_cast<u32>(e.event));
}

/// Who wrote it, as far as the table still knows.
std::string writer_of(u32 client) {
    const bool known = client != 0 && client <= context().max_clients;
    const ClientFacts facts = known ? facts_of(client) : ClientFacts{};
    return facts.pid != 0 ? fmt::format("client {} ({}, pid {})", client, facts.name, facts.pid)
                          : fmt::format("client {}", client);
}

}  // namespace

EventLog::EventLog(const Log& log, FailedMemory& failed) : log_(log), failed_(failed) {
    reader_.skip(log_ring());
}

void EventLog::note(const LogEntry& entry) {
    if (entry.event == Event::memory_failed) failed_.note(entry.a, static_cast<int>(entry.b));
}

void EventLog::say_new() {
    // Once also what was told while there was no daemon: a mark is made once.
    if (!noted_former_) LogReader().read(log_ring(), [&](const LogEntry& entry) { note(entry); });
    noted_former_ = true;
    struct Seen {
        LogEntry last;
        u64 times = 0;
    };
    std::map<std::pair<u32, u32>, Seen> seen;  // by client and event
    u64 lost = reader_.read(log_ring(), [&](const LogEntry& entry) {
        Seen& s = seen[{entry.client, static_cast<u32>(entry.event)}];
        s.last = entry;
        ++s.times;
        note(entry);
    });
    u32 lines = 0;
    for (const auto& [key, s] : seen) {
        // Records of clients and kinds that are none would otherwise fill the log.
        if (++lines > MOST_LINES) {
            lost += seen.size() - MOST_LINES;
            break;
        }
        const std::string often =
            s.times > 1 ? fmt::format(" ({} times, the last of them)", s.times) : "";
        log_(LogLevel::warning,
             fmt::format("{} {}{}", writer_of(key.first), text_of(s.last), often));
    }
    if (lost != 0) log_(LogLevel::warning, fmt::format("{} records of operations were lost", lost));
}

}  // namespace aep
