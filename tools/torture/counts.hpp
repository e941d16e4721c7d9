// Purpose: what a torture run counts, and its closing line.
// Who calls it: the torture's driver.
// Crash rule: no state.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace aep::torture {

/// Operations that were open when their thread was killed, and what became of them.
struct Outcomes {
    std::uint64_t open = 0;
    std::uint64_t completed = 0;
    std::uint64_t undone = 0;

    Outcomes& operator+=(const Outcomes& other) {
        open += other.open;
        completed += other.completed;
        undone += other.undone;
        return *this;
    }
};

struct Counts {
    std::string provider;  // that the daemon found
    std::uint64_t kills = 0;
    Outcomes operations;
    std::uint64_t deferred = 0;  // provider kernel: threads that it has let end their operation
    std::uint64_t broken = 0;    // violated invariants, damaged blocks, poisoned contexts
    std::uint64_t hung = 0;      // nobody may wait: processes or commands that did not end in time
    std::uint64_t leaked_bytes = 0;
    std::uint64_t daemon_kills = 0;
    std::uint64_t node_kills = 0;  // a daemon and all its clients at once, their context gone
    std::map<std::string, std::uint64_t> by_death;
    std::map<std::string, std::uint64_t> by_point;  // 0: never hit

    std::uint64_t points_missed() const {
        std::uint64_t missed = 0;
        for (const auto& [name, hits] : by_point) missed += hits == 0;
        return missed;
    }
    bool clean() const {
        return broken == 0 && hung == 0 && leaked_bytes == 0 &&
               operations.open == operations.completed + operations.undone && points_missed() == 0;
    }
};

}  // namespace aep::torture
